import test from 'ava';
import { parseMemory, placeMemory } from '../../../cli/run/memory-option.js';
import { refused } from '../refused.js';

const MIB = 2 ** 20;

test('sizes are in MiB or have a suffix; none, too little and half a MiB are refused', (t) => {
  t.deepEqual(parseMemory({}), {});
  t.deepEqual(parseMemory({ mem: '512', maxmem: '2G' }), { mem: 512 * MIB, maxmem: 2048 * MIB });
  for (const mem of ['much', '31', '64.5', '-64']) refused(t, 'MEMORY_SIZE', () => parseMemory({ mem }));
  refused(t, 'MEMORY_SIZE', () => parseMemory({ mem: '513', maxmem: '512' }));
});

test('the machine has maxmem, the guest is to use mem', (t) => {
  t.deepEqual(placeMemory({}, []), { args: [] });
  t.deepEqual(placeMemory({ mem: 512 * MIB }, []), { args: ['-m', '512M'], target: 512 * MIB });
  t.deepEqual(placeMemory({ maxmem: 1024 * MIB }, ['-smp', '2']), { args: ['-m', '1024M'] });
  t.deepEqual(placeMemory({ mem: 512 * MIB, maxmem: 1024 * MIB }, []), { args: ['-m', '1024M'], target: 512 * MIB });
});

test('QEMU’s -m says the same as maxmem, or stands for it', (t) => {
  t.deepEqual(placeMemory({ mem: 512 * MIB }, ['-m', '1G']), { args: [], target: 512 * MIB });
  t.deepEqual(placeMemory({ mem: 512 * MIB, maxmem: 1024 * MIB }, ['-m', 'size=1G']), { args: [], target: 512 * MIB });
  t.deepEqual(placeMemory({ maxmem: 1024 * MIB }, ['-m', 'slots=2,maxmem=4G']), { args: ['-m', '1024M'] });
  refused(t, 'MEMORY_SIZE', () => placeMemory({ maxmem: 1024 * MIB }, ['-m', '512']));
  refused(t, 'MEMORY_SIZE', () => placeMemory({ mem: 1024 * MIB }, ['-m', '512']));
});
