import test from 'ava';

import { layout, NONE, Op, Power, SlotKind, SlotState } from '../../kvm/native-bridge-protocol.js';

const { header, slot, message } = layout;

/** Bytes of each field; the rest of the layout is offsets. */
const sizes = {
  header: {
    magic: 4, version: 4, sleeping: 4, ram_generation: 4, spin_ns: 4,
    pending: layout.maxVcpus / 8, created: layout.maxVcpus / 8,
  },
  slot: {
    state: 4, waiting: 4, kind: 4, nr: 4, cpl: 4, long_mode: 4, args: 48, cr0: 8, cr3: 8, cr4: 8, efer: 8, result: 8,
  },
  message: { op: 4, seq: 4, result: 8, arg: 64, text: 176 },
} as const;

for (const [name, fields] of Object.entries(sizes)) {
  const offsets = layout[name as keyof typeof sizes] as Readonly<Record<string, number>>;

  test(`the fields of ${name} do not overlap, are aligned, and lie inside it`, (t) => {
    t.deepEqual(Object.keys(offsets).sort(), [...Object.keys(fields), 'SIZE'].sort());
    const placed = Object.entries(fields).map(([field, size]) => ({ field, at: offsets[field]!, size }));
    placed.sort((a, b) => a.at - b.at);
    let end = 0;
    for (const { field, at, size } of placed) {
      t.true(at >= end, `${field} begins at ${at}, inside the one before`);
      if (field !== 'text') t.is(at % Math.min(size, 8), 0, `${field} is not aligned`);
      end = at + size;
    }
    t.true(end <= offsets['SIZE']!);
  });
}

test('the shared memory is one page of header and a slot for every vCPU', (t) => {
  t.is(header.SIZE, 4096);
  t.is(layout.sharedSize, header.SIZE + layout.maxVcpus * slot.SIZE);
  t.is(layout.maxVcpus % 32, 0, 'whole words of bits');
});

test('slots do not share a cache line', (t) => {
  t.is(slot.SIZE % 64, 0);
});

test('words the two sides change by turns lie in different cache lines from the vCPU bitmaps', (t) => {
  t.true(Math.floor(header.sleeping / 64) !== Math.floor(header.pending / 64));
});

test('no two messages have the same number', (t) => {
  const numbers = Object.values(Op);
  t.is(new Set(numbers).size, numbers.length);
  t.true(numbers.every((number) => Number.isInteger(number) && number > 0));
});

test('numbers tell requests with a reply from one-way ones and from what the plugin sends', (t) => {
  const oneWay = [Op.Raise, Op.SetGsi, Op.Power];
  const fromPlugin = [Op.Hello, Op.Reply, Op.RamBegin, Op.RamFile, Op.RamRange, Op.RamEnd, Op.LogLine, Op.RamMapping, Op.RamWatch];
  t.true(oneWay.every((op) => op >= 64 && op < 128));
  t.true(fromPlugin.every((op) => op >= 128 && op < 192));
  t.is(Op.Init, 192);
  const answered = Object.values(Op).filter((op) => !oneWay.includes(op) && !fromPlugin.includes(op) && op !== Op.Init);
  t.true(answered.every((op) => op < Op.Raise));
});

test('numbers written on the TypeScript side are those of the C++ side', (t) => {
  // kvm/core/protocol.h: SlotState, SlotKind, PowerAction, kNone
  t.deepEqual({ ...SlotState }, { idle: 0, request: 1, done: 2 });
  t.deepEqual({ ...SlotKind }, { hypercall: 0, reset: 1 });
  t.deepEqual({ ...Power }, { poweroff: 1n, reset: 2n, crash: 3n, hold: 4n });
  t.is(BigInt.asIntN(64, NONE), -1n);
  t.is(layout.magic.toString(16), '6d687378');
});

test('a message is one datagram of fixed size with its words aligned', (t) => {
  t.is(message.SIZE, 256);
  t.is(message.text, message.arg + 64);
});
