/** Persistent grants (spec A4) in the hands of a frontend that means no good. */
import test from 'ava';

import { BlkifOp, BlkifStatus } from '../../../shim/abi/io/blkif.js';
import { GTF_PERMIT, GTF_READING, GTF_WRITING, HIGH_GFN } from '../../helpers/fake-frontend-guest.js';
import { writeIndirect } from '../../helpers/fake-frontend-ring.js';
import type { Segment } from '../../helpers/fake-frontend-ring.js';
import { passOn, pattern, QueueRig } from './rig.js';
import type { GrantedPage } from './rig.js';

const { ERROR, OKAY } = BlkifStatus;
const IN_USE = GTF_PERMIT | GTF_READING | GTF_WRITING;

const segmentsOf = (pages: readonly GrantedPage[]): Segment[] => pages.map(({ ref }) => ({ ref }));

/** Up to 256 pages at once. */
function transfer(rig: QueueRig, op: number, sector: number, pages: readonly GrantedPage[]): number {
  const list = rig.guest.page();
  writeIndirect(list.i32, segmentsOf(pages));
  const indirectRef = rig.guest.grant(list.gfn, true);
  const request = { op: BlkifOp.INDIRECT, indirectOp: op, sector: BigInt(sector), claim: pages.length, indirectRef };
  const { status } = rig.request(request);
  rig.guest.end(indirectRef);
  rig.guest.freePage(list);
  return status;
}

test('a persistent grant is mapped once for reads and writes alike, and given back with the connection', (t) => {
  let maps = 0;
  const rig = new QueueRig({
    persistent: true,
    wrapGrants: (grants) => passOn(grants, {
      map: (batch, changed) => {
        maps += batch.count;
        return grants.map(batch, changed);
      },
    }),
  });
  const image = pattern(2048 * 512);
  const pages = Array.from({ length: 4 }, () => rig.page());
  // A write first: the page may be read into all the same afterwards.
  for (const { u8 } of pages) u8.fill(0x77);
  t.is(rig.write(1024, segmentsOf(pages)).status, OKAY);
  for (let round = 0; round < 10; round++) {
    t.is(rig.read(32 * round, segmentsOf(pages)).status, OKAY);
    for (const [i, { u8 }] of pages.entries()) t.true(image.subarray(32 * 512 * round + i * 4096).subarray(0, 4096).equals(u8));
  }
  t.is(maps, 4);
  t.true(rig.disk().subarray(1024 * 512, 1056 * 512).equals(Buffer.alloc(4 * 4096, 0x77)));
  for (const { ref } of pages) t.is(rig.guest.flags(ref), IN_USE);
  t.like(rig.stats(), { persistent: 4, persistent_in_use: 0, errors: 0, duplicate_grefs: 0 });
  t.is(rig.close(), 0);
});

test('E65: the same gref in every segment is mapped once for good and for the others by itself, with the data right', (t) => {
  const rig = new QueueRig({ persistent: true });
  const page = rig.page(false, 0x11);
  const segments = Array.from({ length: 8 }, (_, i) => ({ ref: page.ref, first: i, last: i }));
  const image = pattern(2048 * 512);
  for (let round = 0; round < 3; round++) {
    t.is(rig.read(8 * round, segments).status, OKAY);
    t.true(image.subarray(8 * 512 * round, 8 * 512 * (round + 1)).equals(page.u8));
  }
  page.u8.set(image.subarray(0, 4096));
  t.is(rig.write(64, segments).status, OKAY);
  t.true(image.subarray(0, 4096).equals(rig.disk().subarray(64 * 512, 72 * 512)));
  t.like(rig.stats(), { persistent: 1, persistent_in_use: 0, duplicate_grefs: 4 * 7, errors: 0 });
  // Told once, however often it happens within five seconds.
  t.deepEqual(rig.alerts, ['duplicate-gref']);
  rig.clock[0] = 5000;
  rig.read(0, segments);
  t.deepEqual(rig.alerts, ['duplicate-gref', 'duplicate-gref']);
  t.is(rig.guest.flags(page.ref), IN_USE);
  t.is(rig.ring.rspProd, 5);
  t.is(rig.close(), 0);
});

test('E65: a gref that a request in flight uses is mapped once more for the next request', (t) => {
  const rig = new QueueRig({ persistent: true });
  const page = rig.page();
  for (let id = 0n; id < 5n; id++) rig.ring.write({ op: BlkifOp.READ, id, sector: 24n, segments: [{ ref: page.ref }] });
  rig.ring.push();
  t.is(rig.queue.take(), 5);
  t.like(rig.stats(), { persistent: 1, persistent_in_use: 1, duplicate_grefs: 4 });
  t.is(rig.pump().filter(({ status }) => status === OKAY).length, 5);
  t.true(pattern(2048 * 512).subarray(24 * 512, 32 * 512).equals(page.u8));
  t.like(rig.guest.stats(), { handles: 2 });
  t.is(rig.close(), 0);
});

test('E66: the 1057th persistent grant is told once and mapped per request; then the 50 unused longest go, and all goes on', (t) => {
  const rig = new QueueRig({ persistent: true, sectors: 16384 });
  const image = pattern(16384 * 512);
  // The guest of the rig has 512 pages; more grants than that, of pages that have one already.
  const pages = Array.from({ length: 400 }, () => rig.page());
  const grants = Array.from({ length: 1100 }, (_, i) => ({ ...pages[i % 400]!, ref: rig.guest.grant(pages[i % 400]!.gfn) }));
  rig.clock[0] = 50;
  for (let at = 0; at < 1100; at += 220) t.is(transfer(rig, BlkifOp.READ, 8 * at, grants.slice(at, at + 220)), OKAY);
  t.deepEqual(rig.alerts, ['grant-overflow']);
  t.like(rig.stats(), { grant_overflow: 44, persistent: 1056, persistent_in_use: 0, errors: 0 });
  for (const { ref } of grants.slice(0, 1056)) t.is(rig.guest.flags(ref), IN_USE);
  for (const { ref } of grants.slice(1056)) t.is(rig.guest.flags(ref), GTF_PERMIT);
  rig.clock[0] = 150;
  rig.queue.publish();
  t.like(rig.stats(), { persistent: 1006, purged: 50 });
  for (const [i, { ref }] of grants.entries()) t.is(rig.guest.flags(ref), i < 50 || i >= 1056 ? GTF_PERMIT : IN_USE);
  t.is(transfer(rig, BlkifOp.READ, 4096, grants.slice(1056)), OKAY);
  for (const [i, { u8 }] of grants.slice(1056).entries()) t.true(image.subarray(4096 * 512 + i * 4096).subarray(0, 4096).equals(u8));
  t.like(rig.stats(), { persistent: 1050, grant_overflow: 44 });
  t.is(rig.close(), 0);
});

test('persistent grants unused for a minute are given back without a request', (t) => {
  const rig = new QueueRig({ persistent: true });
  const pages = Array.from({ length: 3 }, () => rig.page());
  rig.clock[0] = 1000;
  rig.read(0, segmentsOf(pages));
  rig.clock[0] = 2000;
  rig.read(0, segmentsOf(pages.slice(0, 1)));
  for (const now of [60_999, 61_000, 62_000]) {
    rig.clock[0] = now;
    rig.queue.publish();
    t.is(rig.stats().persistent, now < 61_000 ? 3 : now < 62_000 ? 1 : 0);
  }
  for (const { ref } of pages) t.true(rig.guest.end(ref));
  t.is(rig.queue.upkeepAt, Infinity);
  t.is(rig.close(), 0);
});

test('E67: a persistent grant that the guest ends stays pinned and in use; its page still takes the data', (t) => {
  const rig = new QueueRig({ persistent: true });
  const page = rig.page();
  t.is(rig.read(0, [{ ref: page.ref }]).status, OKAY);
  t.false(rig.guest.end(page.ref));
  rig.guest.setEntry(page.ref, 0, 0);
  t.is(rig.read(40, [{ ref: page.ref }]).status, OKAY);
  t.true(pattern(2048 * 512).subarray(40 * 512, 48 * 512).equals(page.u8));
  // Granted anew for another page, the gref still means the first one until it is given back.
  const other = rig.guest.page();
  rig.guest.setEntry(page.ref, other.gfn, GTF_PERMIT);
  t.is(rig.read(80, [{ ref: page.ref }]).status, OKAY);
  t.true(pattern(2048 * 512).subarray(80 * 512, 88 * 512).equals(page.u8));
  t.true(other.u8.every((byte) => byte === 0));
  t.is(rig.close(), 0);
});

test('E102: after a gref that is there already, each later segment still has the page of its own', (t) => {
  const rig = new QueueRig({ persistent: true });
  const image = pattern(2048 * 512);
  const pages = Array.from({ length: 6 }, () => rig.page());
  const [a, b, c, d, e, f] = pages as [GrantedPage, GrantedPage, GrantedPage, GrantedPage, GrantedPage, GrantedPage];
  rig.read(0, segmentsOf([d]));
  const list = [
    { ref: a.ref }, { ref: b.ref, last: 3 }, { ref: b.ref, first: 4 }, { ref: c.ref }, { ref: d.ref, last: 0 },
    { ref: d.ref, first: 1 }, { ref: e.ref }, { ref: f.ref },
  ];
  t.is(rig.read(100, list).status, OKAY);
  for (const [i, { u8 }] of pages.entries()) t.true(image.subarray(100 * 512 + i * 4096).subarray(0, 4096).equals(u8), `page ${i}`);
  t.is(rig.write(1000, list).status, OKAY);
  t.true(image.subarray(100 * 512, 148 * 512).equals(rig.disk().subarray(1000 * 512, 1048 * 512)));
  t.like(rig.stats(), { persistent: 6, duplicate_grefs: 4, errors: 0 });
  t.is(rig.close(), 0);
});

test('E103: a map that fails on one segment of four gives back the others; those that stay are not in use', (t) => {
  const rig = new QueueRig({ persistent: true });
  const pages = Array.from({ length: 4 }, () => rig.page(false, 0xaa));
  rig.read(0, segmentsOf(pages.slice(3)));
  pages[3]!.u8.fill(0xaa);
  for (const bad of [0, 1, 2, 3]) {
    const segments = pages.map(({ ref }, i) => ({ ref: i === bad ? 4000 : ref }));
    t.is(rig.read(0, segments).status, ERROR);
    t.is(rig.write(0, segments).status, ERROR);
    t.is(rig.stats().persistent_in_use, 0);
  }
  t.true(pages.every(({ u8 }) => u8.every((byte) => byte === 0xaa)));
  t.true(pattern(2048 * 512).equals(rig.disk()));
  t.is(rig.stats().persistent, 4);
  // None of them is held by the failed requests: they all expire.
  rig.clock[0] = 70_000;
  rig.queue.publish();
  t.is(rig.stats().persistent, 0);
  for (const { ref } of pages) t.is(rig.guest.flags(ref), GTF_PERMIT);
  t.is(rig.close(), 0);
});

test('E104, E105: with persistent grants a readonly grant is ERROR whichever way the data goes', (t) => {
  const rig = new QueueRig({ persistent: true });
  const page = rig.page(true, 0xaa);
  t.is(rig.read(0, [{ ref: page.ref }]).status, ERROR);
  t.is(rig.write(0, [{ ref: page.ref }]).status, ERROR);
  t.true(page.u8.every((byte) => byte === 0xaa));
  t.is(rig.guest.flags(page.ref) & (GTF_READING | GTF_WRITING), 0);
  t.true(pattern(2048 * 512).equals(rig.disk()));
  t.is(rig.close(), 0);
});

for (const persistent of [false, true]) {
  test(`E110: RAM that goes away with the ring and a page in it is still there for us, and gone for whom it is granted anew${persistent ? ' (persistent)' : ''}`, (t) => {
    const rig = new QueueRig({ persistent });
    const image = pattern(2048 * 512);
    const all = rig.guest.handles.ram;
    const isLow = ({ gfn }: { gfn: number }): boolean => gfn < HIGH_GFN;
    const ringIsLow = isLow(rig.ring.pages[0]!);
    const pages = Array.from({ length: 4 }, () => rig.page());
    const gone = pages.filter((page) => isLow(page) === ringIsLow);
    const there = pages.filter((page) => isLow(page) !== ringIsLow);
    t.is(rig.read(8, [{ ref: gone[0]!.ref }]).status, OKAY);
    rig.ring.write({ op: BlkifOp.READ, id: 1n, sector: 64n, segments: [{ ref: gone[1]!.ref }] });
    rig.ring.push();
    t.is(rig.queue.take(), 1);
    // While that one is in flight, the guest gives up the half of its memory that the ring is in.
    rig.guest.attached.remap(all.filter((range) => isLow(range) !== ringIsLow));
    t.deepEqual(rig.pump().map(({ status }) => status), [OKAY]);
    t.true(image.subarray(64 * 512, 72 * 512).equals(gone[1]!.u8));
    t.is(rig.read(16, [{ ref: there[0]!.ref }]).status, OKAY);
    t.true(image.subarray(16 * 512, 24 * 512).equals(there[0]!.u8));
    // A page that is mapped for good is; one to be mapped is not to be had.
    t.is(rig.read(24, [{ ref: gone[0]!.ref }]).status, persistent ? OKAY : ERROR);
    t.is(rig.read(24, [{ ref: rig.guest.grant(gone[0]!.gfn) }]).status, ERROR);
    t.is(rig.close(), 0);
  });
}
