/** Frames whose pages are not there when the vif comes for them (GNTST_eagain, spec A0). */
import test from 'ava';
import { Gntst } from '../../../shim/abi/grant-table.js';
import { FakeNetfront, TX_BUFFER_REF } from './fake-netfront.js';
import { plainFrame } from './frames.js';
import { rigged } from './rig.js';
import type { Rig } from './rig.js';

const OKAY = 0;
const ERROR = -1;

interface Lookups {
  /** How often the page of a transmit buffer was asked for. */
  of(buffer: number): number;
  readonly gaveUp: readonly number[];
}

/** A vif whose transmit buffers are not there the first `absent[buffer]` times they are asked for. */
function paged(absent: Readonly<Record<number, number>>, body: (rig: Rig, lookups: Lookups) => void, cancelled = () => false): void {
  const gaveUp: number[] = [];
  const front = new FakeNetfront(1, { cancelled, gaveUp: (ref) => gaveUp.push(ref - TX_BUFFER_REF) });
  const asked = new Map<number, number>();
  front.guest.grantTable.frames.residency = {
    idle: false,
    pin: (gfn) => {
      const buffer = gfn - front.txBufferGfn(0);
      asked.set(buffer, (asked.get(buffer) ?? 0) + 1);
      return asked.get(buffer)! <= (absent[buffer] ?? 0) ? Gntst.eagain : Gntst.okay;
    },
    unpin: () => {},
    wrote: () => {},
  };
  try {
    rigged((rig) => {
      body(rig, { of: (buffer) => asked.get(buffer) ?? 0, gaveUp });
    }, { front });
  } finally {
    front.close();
  }
}

test('E11: a frame with pages that come late is sent whole, and only those are asked for again', (t) => {
  paged({ 1: 1, 3: 9 }, (rig, lookups) => {
    const frame = plainFrame(5 * 500);
    const ids = rig.front.send(frame, { sizes: [500, 500, 500, 500, 500] });
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, frame);
    t.deepEqual(rig.front.txResponses(), ids.map((id) => ({ id, status: OKAY })));
    t.deepEqual([0, 1, 2, 3, 4].map((buffer) => lookups.of(buffer)), [1, 2, 1, 10, 1]);
    t.deepEqual(lookups.gaveUp, []);
    t.deepEqual(rig.front.inUse(), []);
  });
});

test('E10: a page that never comes is asked for 256 times; its slot gets ERROR, and frames around it are sent in order', (t) => {
  paged({ 2: Infinity }, (rig, lookups) => {
    const frames = [plainFrame(700), plainFrame(900), plainFrame(300)];
    const before = rig.front.send(frames[0]!);
    const ids = rig.front.send(frames[1]!, { sizes: [300, 300, 300] });
    const after = rig.front.send(frames[2]!);
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, frames[0]);
    t.deepEqual(rig.wire.receive()?.frame, frames[2]);
    t.is(rig.wire.receive(), undefined);
    const statuses = new Map(rig.front.txResponses().map(({ id, status }) => [id, status]));
    t.deepEqual([...before, ...ids, ...after].map((id) => statuses.get(id)), [OKAY, OKAY, ERROR, OKAY, OKAY]);
    t.is(lookups.of(2), 256);
    t.deepEqual(lookups.gaveUp, [2]);
    t.is(rig.stats.txDropGrant, 1);
    t.deepEqual(rig.front.inUse(), []);
  });
});

test('E12: a vif that is going away does not go on asking', (t) => {
  let looks = 0;
  paged({ 0: Infinity }, (rig, lookups) => {
    const [id] = rig.front.send(plainFrame(100));
    rig.settle();
    t.is(lookups.of(0), 5, 'the batch, the second attempt, and three more');
    t.deepEqual(lookups.gaveUp, []);
    t.deepEqual(rig.front.txResponses(), [{ id, status: ERROR }]);
    t.deepEqual(rig.front.inUse(), []);
  }, () => ++looks > 3);
});

test('E79: nobody asks for the page of an empty slot', (t) => {
  paged({ 1: Infinity }, (rig, lookups) => {
    const frame = plainFrame(200);
    rig.front.send(frame, { sizes: [100, 0, 100] });
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, frame);
    t.deepEqual([0, 1, 2].map((buffer) => lookups.of(buffer)), [1, 0, 1]);
  });
});
