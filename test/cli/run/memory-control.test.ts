import test from 'ava';
import type { Guest } from '../../../cli/run/guest.js';
import { memoryControl } from '../../../cli/run/memory-control.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import type { StoreClient } from '../../../shim/xenstore/client.js';

const MIB = 2 ** 20;

function control(state: Guest['state'] = 'running') {
  const written: [string, string][] = [];
  const store = { write: (path: string, value: string) => void written.push([path, value]) } as unknown as StoreClient;
  const handlers = memoryControl({ state } as unknown as Guest, store, 512 * MIB);
  const code = async (command: string, args: Record<string, unknown>): Promise<string> => {
    try {
      await handlers[command]!(args);
      return 'nothing';
    } catch (error) {
      return error instanceof OperatorError ? error.code : String(error);
    }
  };
  return { handlers, written, code };
}

test('mem-set writes memory/target in KiB, and refuses what the guest cannot have', async (t) => {
  const { handlers, written, code } = control();
  handlers['mem-set']!({ bytes: 256 * MIB });
  t.deepEqual(written, [['/local/domain/1/memory/target', String(256 * 1024)]]);
  for (const bytes of [16 * MIB, 513 * MIB, NaN, -1, 'all', undefined]) t.is(await code('mem-set', { bytes }), 'MEMORY_TARGET');
  t.is(await control('starting').code('mem-set', { bytes: 256 * MIB }), 'NOT_UP');
  t.is(written.length, 1);
});
