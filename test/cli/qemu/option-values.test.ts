import test from 'ava';
import fc from 'fast-check';

import { isOn, keyValues, memorySize, words } from '../../../cli/qemu/option-values.js';

const MiB = 2 ** 20;

test('a memory size counts MiB unless it has a suffix of either case', (t) => {
  const sizes: [string, number][] = [
    ['512', 512 * MiB], ['1G', 1024 * MiB], ['1g', 1024 * MiB], ['4194304k', 4096 * MiB], ['1.5G', 1536 * MiB],
    ['2048M', 2048 * MiB], ['1T', 2 ** 40], ['1048576B', MiB], ['0.5', MiB / 2], ['1P', 2 ** 50],
  ];
  for (const [text, bytes] of sizes) t.is(memorySize(text), bytes, text);
});

test('what is no size is not taken for one', (t) => {
  for (const text of ['', 'G', '1GB', '1GiB', '-1', '+1', '1e3', '0x10', ' 1', '1 G', '1,5G', '.5', '1.', 'NaN']) {
    t.is(memorySize(text), undefined, text);
  }
});

test('pairs are split at commas, a doubled comma stands for one, and the first word may lack its key', (t) => {
  const pairs = [...keyValues('pc,usb=off,file=/a,,b=c,nodefaults,accel=kvm:tcg', 'type')];
  t.deepEqual(pairs, [
    ['type', 'pc'], ['usb', 'off'], ['file', '/a,b=c'], ['nodefaults', 'on'], ['accel', 'kvm:tcg'],
  ]);
  t.deepEqual([...keyValues('a=1', 'type')], [['a', '1']]);
  t.deepEqual([...keyValues('', 'type')], [['type', '']]);
});

test('of a key given twice the last value counts', (t) => {
  t.is(keyValues('size=1G,size=2G', 'size').get('size'), '2G');
});

test('JSON gives the same keys as pairs do: nested ones with dots, booleans on and off', (t) => {
  const pairs = keyValues(
    '{"qom-type":"memory-backend-memfd","share":true,"prealloc":false,"size":4294967296,"host-nodes":[0,1],'
      + '"file":{"driver":"file","filename":"/a,b"},"none":null}',
    'qom-type',
  );
  t.deepEqual([...pairs], [
    ['qom-type', 'memory-backend-memfd'], ['share', 'on'], ['prealloc', 'off'], ['size', '4294967296'],
    ['host-nodes.0', '0'], ['host-nodes.1', '1'], ['file.driver', 'file'], ['file.filename', '/a,b'], ['none', 'null'],
  ]);
});

test('broken JSON is left for QEMU to complain about', (t) => {
  t.is(keyValues('{"id":', 'type').get('id'), undefined);
});

test('parts joined with commas, their own doubled, come apart again', (t) => {
  const part = fc.stringMatching(/^[a-z=.]{1,4}(,[a-z=.]{1,4}){0,2}$/);
  fc.assert(fc.property(fc.array(part, { minLength: 1 }), (parts) => {
    t.deepEqual(words(parts.map((each) => each.replaceAll(',', ',,')).join(',')), parts);
  }));
});

test('a boolean is on in the four ways QAPI has', (t) => {
  for (const text of ['on', 'yes', 'true', 'y']) t.true(isOn(text));
  for (const text of ['off', 'no', 'false', 'n', '', 'ON', '1']) t.false(isOn(text));
});
