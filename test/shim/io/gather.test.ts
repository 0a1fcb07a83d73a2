import test from 'ava';
import { arena } from '../../../shim/io/memory.js';
import { Gather } from '../../../shim/io/gather.js';

const BYTES = 4096;

test('pieces come to lie where they were asked for, in the order of the list, and once only', (t) => {
  const from = arena(BYTES);
  const into = new ArrayBuffer(64);
  const bytes = new Uint8Array(from.i32.buffer);
  bytes.forEach((_, i) => (bytes[i] = i * 7));
  const gather = new Gather(into, 4);
  gather.add(from.lo + 100, from.hi, 0, 33);
  gather.add(from.lo + 4090, from.hi, 61, 3);
  gather.add(from.lo, from.hi, 32, 2);
  gather.add(from.lo, from.hi, 5, 0);
  gather.run();
  const expected = new Uint8Array(64);
  expected.set(bytes.subarray(100, 133), 0);
  expected.set(bytes.subarray(4090, 4093), 61);
  expected.set(bytes.subarray(0, 2), 32);
  t.deepEqual(new Uint8Array(into), expected);
  t.is(gather.count, 0);
  new Uint8Array(into).fill(0);
  gather.run();
  t.deepEqual(new Uint8Array(into), new Uint8Array(64));
  from.free();
});

test('a piece that would end outside the buffer is left out', (t) => {
  const from = arena(BYTES);
  from.i32.fill(-1);
  const around = new ArrayBuffer(16);
  const gather = new Gather(around, 4);
  gather.add(from.lo, from.hi, 15, 2);
  gather.add(from.lo, from.hi, -1, 2);
  gather.add(from.lo, from.hi, 0, -1);
  gather.add(from.lo, from.hi, 14, 2);
  gather.run();
  t.deepEqual([...new Uint8Array(around)], [...new Array<number>(14).fill(0), 0xff, 0xff]);
  from.free();
});
