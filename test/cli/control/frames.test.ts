import test from 'ava';
import fc from 'fast-check';

import { Deframer, frame, MAX_FRAME } from '../../../cli/control/frames.js';

const messages = [{ command: 'status', args: {} }, [1, 'two', null], 'text', 7, true, { deep: { er: [{}] } }];

test('messages arrive as they were sent, however the stream is cut', (t) => {
  const stream = Buffer.concat(messages.map(frame));
  fc.assert(fc.property(fc.array(fc.nat(stream.length)), (cuts) => {
    const edges = [0, ...cuts.sort((a, b) => a - b), stream.length];
    const deframer = new Deframer();
    t.deepEqual(edges.slice(1).flatMap((edge, i) => deframer.push(stream.subarray(edges[i], edge))), messages);
  }));
});

test('a message that has not come whole is not there yet', (t) => {
  const deframer = new Deframer();
  const bytes = frame('text');
  t.deepEqual(deframer.push(bytes.subarray(0, bytes.length - 1)), []);
  t.deepEqual(deframer.push(bytes.subarray(bytes.length - 1)), ['text']);
  t.deepEqual(deframer.push(Buffer.alloc(0)), []);
});

test('a message that is too long is refused by its length, before its bytes come', (t) => {
  const head = Buffer.alloc(4);
  head.writeUInt32LE(MAX_FRAME + 1);
  t.throws(() => new Deframer().push(head), { instanceOf: RangeError });
  head.writeUInt32LE(0xffff_ffff);
  t.throws(() => new Deframer().push(head), { instanceOf: RangeError });
  head.writeUInt32LE(MAX_FRAME);
  t.deepEqual(new Deframer().push(head), []);
});

test('bytes that are no message throw an Error and nothing worse', (t) => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(bytes.length);
    try {
      new Deframer().push(Buffer.concat([head, bytes]));
      t.pass();
    } catch (error) {
      t.true(error instanceof Error);
    }
  }), { numRuns: 2000 });
  const deep = Buffer.alloc(1_000_004, 0x91);
  deep.writeUInt32LE(1_000_000);
  t.throws(() => new Deframer().push(deep));
});
