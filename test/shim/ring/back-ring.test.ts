import test from 'ava';
import fc from 'fast-check';

import { ringSlots } from '../../../shim/abi/io/ring.js';
import { BackRing } from '../../../shim/ring/back-ring.js';

const REQ_PROD = 0;
const REQ_EVENT = 1;
const RSP_PROD = 2;
const RSP_EVENT = 3;
const SLOT = 112;

/** Ring pages scattered over a larger buffer in reverse order, so that a wrong base or a straddle shows. */
function ring(pages = 1, rsp = 0, req = rsp) {
  const i32 = new Int32Array((pages * 2 + 1) * 1024);
  const list = Array.from({ length: pages }, (_, i) => ({ i32, base: (pages - 1 - i) * 2048 + 1024 }));
  const head = list[0]!.base;
  i32[head + REQ_PROD] = req;
  i32[head + RSP_PROD] = rsp;
  i32[head + REQ_EVENT] = rsp + 1;
  i32[head + RSP_EVENT] = rsp + 1;
  const slots = ringSlots(pages, SLOT);
  const word = (index: number): number => list[index >>> 10]!.base + (index & 1023);
  return { back: new BackRing(list, slots, SLOT), i32, head, slots, word };
}

test('ring sizes are those of the block protocol: 32 slots a page, 512 in sixteen', (t) => {
  t.deepEqual([1, 2, 4, 8, 16].map((pages) => ringSlots(pages, 112)), [32, 64, 128, 256, 512]);
  t.deepEqual([1, 16].map((pages) => ringSlots(pages, 108)), [32, 512]);
  t.deepEqual([ringSlots(1, 12), ringSlots(1, 8), ringSlots(1, 16)], [256, 256, 128]);
});

test('every word of every slot is read where a contiguous ring would have it, also across pages', (t) => {
  const { back, i32, head, slots, word } = ring(4);
  for (let i = 0; i < slots * 28; i++) i32[word(16 + i)] = i;
  i32[head + REQ_PROD] = slots;
  const into = new Int32Array(30);
  for (let slot = 0; slot < slots; slot++) {
    back.copyRequest(0, 6, into, 0);
    back.copyRequest(6, 22, into, 6);
    t.deepEqual([...into.subarray(0, 28)], Array.from({ length: 28 }, (_, i) => slot * 28 + i));
    back.consume();
  }
  t.is(back.available(), 0);
});

test('responses go to the slots in order, also across pages and the index wrap', (t) => {
  const { back, i32, head, slots, word } = ring(2, -3);
  for (let round = 0; round < slots * 2; round++) {
    i32[head + REQ_PROD]!++;
    t.is(back.available(), 1);
    back.consume();
    for (let w = 0; w < 4; w++) back.setResponseWord(w, round * 4 + w);
    back.pushResponse();
    back.publish();
    const slot = (round - 3) & (slots - 1);
    for (let w = 0; w < 4; w++) t.is(i32[word(16 + slot * 28 + w)], round * 4 + w);
    t.is(i32[head + RSP_PROD], (round - 2) | 0);
  }
});

test('responses of one word go to the slots in order, also across pages and the index wrap', (t) => {
  const { back, i32, head, slots, word } = ring(2, -3);
  for (let round = 0; round < slots * 2; round++) {
    i32[head + REQ_PROD]!++;
    back.consume();
    back.respondWord(~round);
    back.publish();
    t.is(i32[word(16 + ((round - 3) & (slots - 1)) * 28)], ~round);
    t.is(i32[head + RSP_PROD], (round - 2) | 0);
  }
});

test('E56: a producer index one past the ring halts it for good', (t) => {
  const { back, i32, head, slots } = ring();
  i32[head + REQ_PROD] = slots + 1;
  t.is(back.available(), -1);
  i32[head + REQ_PROD] = 1;
  t.is(back.available(), -1);
  t.true(back.halted);
});

test('a producer index that goes backwards halts the ring', (t) => {
  const { back, i32, head } = ring();
  i32[head + REQ_PROD] = 4;
  for (let i = 0; i < 4; i++) back.consume();
  i32[head + REQ_PROD] = 2;
  t.is(back.available(), -1);
});

test('unanswered requests count towards the ring size, so none of them is overwritten', (t) => {
  const { back, i32, head, slots } = ring();
  i32[head + REQ_PROD] = slots;
  for (let i = 0; i < slots; i++) back.consume();
  t.is(back.available(), 0);
  i32[head + REQ_PROD] = slots + 1;
  t.is(back.available(), -1);
});

test('E57: a page whose indexes are further apart than the ring is halted on attach', (t) => {
  t.true(ring(1, 5, 5 + 33).back.halted);
  t.false(ring(1, 5, 5 + 32).back.halted);
  t.true(ring(1, 5, 4).back.halted);
});

test('attach carries on from the response index in the page', (t) => {
  const { back } = ring(1, 1000, 1007);
  t.is(back.available(), 7);
  t.is(back.rspProd, 1000);
});

test('whatever the page says, available() stays within the ring and never throws', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer(), { maxLength: 20 }), fc.nat(32), (producers, take) => {
      const { back, i32, head, slots } = ring();
      for (const producer of producers) {
        i32[head + REQ_PROD] = producer;
        const waiting = back.available();
        t.true(waiting >= -1 && waiting + back.unanswered <= slots);
        for (let i = 0; i < Math.min(take, waiting); i++) back.consume();
      }
    }),
  );
});

test('the frontend is told exactly when its event index lies among the responses published', (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 32 }), fc.integer({ min: -40, max: 40 }), (start, n, event) => {
      const { back, i32, head } = ring(1, start);
      i32[head + REQ_PROD] = start + n;
      i32[head + RSP_EVENT] = start + event;
      for (let i = 0; i < n; i++) {
        back.consume();
        back.pushResponse();
      }
      t.is(back.publish(), event >= 1 && event <= n);
      t.false(back.publish());
    }),
  );
});

test('the final check asks for the next request and reports one that is there already', (t) => {
  const { back, i32, head } = ring(1, 7);
  t.false(back.finalCheck());
  t.is(i32[head + REQ_EVENT], 8);
  i32[head + REQ_PROD] = 8;
  t.true(back.finalCheck());
});
