import test from 'ava';
import { Gntst } from '../../../shim/abi/grant-table.js';
import { BackendGrants } from '../../../shim/grant-table/backend-grants.js';
import { MapBatch } from '../../../shim/grant-table/foreign.js';
import { PAGE_OP_SHIFT, PageBatch, PageOp } from '../../../shim/grant-table/page-batch.js';
import { fixture, LOW_GFN, PERMIT, type Fixture } from './fixture.js';

/** Eight grants; the frame of the fourth is not there for the first `absent` lookups. No page is waited for. */
function pagedOut(absent: number, cancelled = () => false) {
  const f: Fixture = fixture();
  const lookups = new Map<number, number>();
  const gaveUp: number[] = [];
  for (let i = 0; i < 8; i++) f.grant(8 + i, LOW_GFN + i);
  f.table.frames.residency = {
    idle: false,
    pin: (gfn) => {
      const count = (lookups.get(gfn) ?? 0) + 1;
      lookups.set(gfn, count);
      return gfn === LOW_GFN + 3 && count <= absent ? Gntst.eagain : Gntst.okay;
    },
    unpin: () => {},
    wrote: () => {},
  };
  const grants = new BackendGrants(f.table, { cancelled, gaveUp: (ref) => gaveUp.push(ref) });
  const batch = new MapBatch(8);
  for (let i = 0; i < 8; i++) batch.add(8 + i, false, 100 + i);
  return { f, grants, batch, lookups, gaveUp };
}

test('E09: a thread that may wait maps an evicted page as if it had been there', (t) => {
  const { grants, lookups } = pagedOut(5);
  t.true(grants.mapOne(11, false, 0, () => {}) >= 0);
  t.is(lookups.get(LOW_GFN + 3), 6);
});

test('E10: waiting in place, too, ends after 256 attempts with bad_page, and is told once', (t) => {
  const { f, grants, batch, lookups, gaveUp } = pagedOut(Infinity);
  t.is(grants.map(batch, null), 1);
  t.is(batch.status[3], Gntst.bad_page);
  t.is(lookups.get(LOW_GFN + 3), 256);
  t.deepEqual(gaveUp, [11]);
  t.is(f.flags(11), PERMIT);
  const last = pagedOut(255);
  t.is(last.grants.map(last.batch, null), 0, 'the 256th attempt counts');
});

test('E11: only the op whose page is missing is issued again, and the pages are handed over in order at the end', (t) => {
  const { grants, batch, lookups } = pagedOut(7);
  const seen: number[] = [];
  t.is(grants.map(batch, (context) => seen.push(context)), 0);
  t.deepEqual(seen, [100, 101, 102, 103, 104, 105, 106, 107]);
  for (let i = 0; i < 8; i++) t.is(lookups.get(LOW_GFN + i), i === 3 ? 8 : 1);
});

test('E12: when the device goes away no further attempt is made and nobody is told', (t) => {
  let asked = 0;
  const { grants, batch, lookups, gaveUp } = pagedOut(Infinity, () => ++asked > 3);
  t.is(grants.map(batch, null), 1);
  t.is(batch.status[3], Gntst.bad_page);
  t.is(lookups.get(LOW_GFN + 3), 5, 'the batch, the second attempt, and three more');
  t.deepEqual(gaveUp, []);
});

/** The same eight grants as pages. */
function pages(): { batch: PageBatch; word: (op: number, word: number) => number } {
  const batch = new PageBatch(8);
  for (let i = 0; i < 8; i++) batch.add(8 + i, true, 100 + i);
  return { batch, word: (op, word) => batch.words[(op << PAGE_OP_SHIFT) + word]! };
}

test('E10: settling a batch of pages ends after 256 attempts with bad_page, and is told once', (t) => {
  const { f, grants, lookups, gaveUp } = pagedOut(Infinity);
  const { batch, word } = pages();
  t.is(grants.mapPages(batch), 1);
  t.is(word(3, PageOp.STATUS), Gntst.eagain, 'mapPages has no patience');
  t.is(lookups.get(LOW_GFN + 3), 1);
  t.is(grants.settlePages(batch), 1);
  t.is(word(3, PageOp.STATUS), Gntst.bad_page);
  t.is(lookups.get(LOW_GFN + 3), 256);
  t.deepEqual(gaveUp, [11]);
  t.is(f.flags(11), PERMIT);
  const last = pagedOut(255);
  t.is(last.grants.mapPages(batch), 1);
  t.is(last.grants.settlePages(batch), 0, 'the 256th attempt counts');
  batch.free();
});

test('E11: settling a batch of pages issues none again but the one that is missing, whatever the others are', (t) => {
  const { f, grants, lookups } = pagedOut(7);
  const { batch, word } = pages();
  f.grant(13, LOW_GFN + 5, 0);
  grants.mapPages(batch);
  const before = Int32Array.from(batch.words);
  t.is(grants.settlePages(batch), 1);
  t.is(word(3, PageOp.STATUS), Gntst.okay);
  t.is(word(5, PageOp.STATUS), Gntst.general_error);
  for (let i = 0; i < 8; i++) {
    t.is(lookups.get(LOW_GFN + i), [1, 1, 1, 8, 1, undefined, 1, 1][i]);
    const [from, to] = [i << PAGE_OP_SHIFT, (i + 1) << PAGE_OP_SHIFT];
    if (i !== 3) t.deepEqual(batch.words.slice(from, to), before.slice(from, to));
  }
  const seen: unknown[] = [];
  grants.handOverPage(batch, 3, (context, window, offset) => seen.push(context, window.gfn, offset));
  t.deepEqual(seen, [103, LOW_GFN, 3 * 4096]);
  batch.free();
});

test('E12: settling a batch of pages ends when the device goes away; without patience there is one attempt more', (t) => {
  let asked = 0;
  const { grants, lookups, gaveUp, f } = pagedOut(Infinity, () => ++asked > 3);
  const { batch, word } = pages();
  grants.mapPages(batch);
  t.is(grants.settlePages(batch), 1);
  t.is(word(3, PageOp.STATUS), Gntst.bad_page);
  t.is(lookups.get(LOW_GFN + 3), 5, 'the batch, the second attempt, and three more');
  t.deepEqual(gaveUp, []);
  const hasty = new BackendGrants(f.table);
  batch.words[(3 << PAGE_OP_SHIFT) + PageOp.STATUS] = Gntst.eagain;
  t.is(hasty.settlePages(batch), 1);
  t.is(lookups.get(LOW_GFN + 3), 6);
  t.is(word(3, PageOp.STATUS), Gntst.eagain);
  batch.free();
});

test('E09: copies wait for the page as maps do, in the middle of a batch as well', (t) => {
  const { f, grants, lookups } = pagedOut(4);
  grants.begin();
  t.is(grants.copyTo(11, 5, Uint8Array.of(7), 0, 1), Gntst.okay);
  grants.end();
  t.is(lookups.get(LOW_GFN + 3), 5);
  t.is(f.memory.windows[0]!.u8[3 * 4096 + 5], 7);
  t.is(f.flags(11), PERMIT);
});

test('any other status comes back from the first attempt', (t) => {
  const { grants, lookups } = pagedOut(0);
  t.is(grants.mapOne(9999, false, 0, () => {}), Gntst.bad_gntref);
  t.is(grants.copyTo(9999, 0, Uint8Array.of(7), 0, 1), Gntst.bad_gntref);
  t.is(lookups.size, 0);
});
