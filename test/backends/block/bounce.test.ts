/** Data that goes through pages of our own, because a target takes only aligned buffers. */
import { truncateSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';

import { BlkifOp, BlkifStatus } from '../../../shim/abi/io/blkif.js';
import { arena } from '../../../shim/io/memory.js';
import { BouncePool, MOST_BUFFER_PAGES } from '../../../backends/block/bounce-pool.js';
import { GTF_PERMIT } from '../../helpers/fake-frontend-guest.js';
import { writeIndirect } from '../../helpers/fake-frontend-ring.js';
import type { Segment } from '../../helpers/fake-frontend-ring.js';
import { refusedLater } from '../../cli/refused.js';
import { BlockLab } from './lab.js';
import { pattern, QueueRig } from './rig.js';
import type { GrantedPage } from './rig.js';

const { ERROR, OKAY } = BlkifStatus;
const SECTORS = 4096;

/** First and last sector of a segment. */
const piece = fc.tuple(fc.nat(7), fc.nat(7)).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));

/** Up to 256 segments, direct or indirect. */
function write(rig: QueueRig, id: bigint, op: number, sector: number, segments: readonly Segment[], list: GrantedPage): void {
  const common = { id, sector: BigInt(sector) };
  if (segments.length <= 11) {
    rig.ring.write({ ...common, op, segments });
  } else {
    writeIndirect(list.i32, segments);
    rig.ring.write({ ...common, op: BlkifOp.INDIRECT, indirectOp: op, claim: segments.length, indirectRef: list.ref });
  }
}

for (const persistent of [false, true]) {
  test(`reads and writes of any segments move exactly their bytes through bounce pages${persistent ? ', persistent grants or not' : ''}`, (t) => {
    const rig = new QueueRig({ alignment: 4096, sectors: SECTORS, persistent });
    const pages = Array.from({ length: 60 }, () => rig.page());
    const list = rig.page();
    const image = pattern(SECTORS * 512);
    let id = 1n;
    fc.assert(
      fc.property(fc.boolean(), fc.nat(SECTORS - 480), fc.array(piece, { minLength: 1, maxLength: 60 }), fc.nat(255), (isWrite, sector, pieces, fill) => {
        for (const { u8 } of pages) u8.fill(fill);
        for (const [i, { first, last }] of pieces.entries()) if (isWrite) pages[i]!.u8.fill(fill ^ (i + 1), first * 512, (last + 1) * 512);
        write(rig, id++, isWrite ? BlkifOp.WRITE : BlkifOp.READ, sector, pieces.map((each, i) => ({ ref: pages[i]!.ref, ...each })), list);
        rig.ring.push();
        t.deepEqual(rig.pump().map(({ status }) => status), [OKAY]);
        let at = sector * 512;
        for (const [i, { first, last }] of pieces.entries()) {
          const bytes = (last - first + 1) * 512;
          const expected = Buffer.alloc(4096, fill);
          if (isWrite) image.fill(fill ^ (i + 1), at, at + bytes);
          image.copy(expected, first * 512, at, at + bytes);
          t.true(expected.equals(pages[i]!.u8), `segment ${i}`);
          at += bytes;
        }
        if (isWrite) t.true(image.equals(rig.disk()));
      }),
      { numRuns: 60 },
    );
    const { bounced, rd_req, wr_req, buffer_pages, free_buffer_pages } = rig.stats();
    t.true(bounced > 0 && bounced <= rd_req + wr_req);
    t.is(buffer_pages, free_buffer_pages);
    t.is(rig.close(), 0);
  });
}

test('segments that are aligned go straight, and nothing is kept for them', (t) => {
  const rig = new QueueRig({ alignment: 4096 });
  const pages = Array.from({ length: 4 }, () => rig.page());
  const segments = pages.map(({ ref }) => ({ ref }));
  t.is(rig.read(0, segments).status, OKAY);
  t.is(rig.write(64, segments).status, OKAY);
  t.like(rig.stats(), { bounced: 0, buffer_pages: 0 });
  t.is(rig.read(0, [{ ref: pages[0]!.ref, last: 6 }]).status, OKAY);
  t.like(rig.stats(), { bounced: 1, buffer_pages: 1, free_buffer_pages: 1 });
  t.is(rig.close(), 0);
});

test('a target that takes any sector needs no bounce pages', (t) => {
  const rig = new QueueRig({ alignment: 512 });
  t.is(rig.read(0, [{ ref: rig.page().ref, first: 3, last: 6 }]).status, OKAY);
  t.like(rig.stats(), { bounced: 0, buffer_pages: 0 });
  t.is(rig.close(), 0);
});

for (const maxBufferPages of [0, 1, 256, MOST_BUFFER_PAGES]) {
  test(`E68: with max-buffer-pages ${maxBufferPages} every request is served, waiting in the ring where it must`, (t) => {
    const rig = new QueueRig({ alignment: 4096, sectors: 8192, maxBufferPages });
    const image = pattern(8192 * 512);
    const pages = Array.from({ length: 256 }, () => rig.page());
    const lists = Array.from({ length: 32 }, () => rig.page());
    // Seven sectors of each page: one request takes 224 bounce pages, and 32 of them all that a ring could ever want.
    const segments = pages.map(({ ref }) => ({ ref, last: 6 }));
    for (let round = 0; round < 2; round++) {
      for (const [i, list] of lists.entries()) write(rig, BigInt(i), BlkifOp.READ, 8 * i, segments, list);
      rig.ring.push();
      const responses = rig.pump();
      t.deepEqual(responses.map(({ id }) => Number(id)).sort((a, b) => a - b), lists.map((_, i) => i));
      t.true(responses.every(({ op, status }) => op === BlkifOp.READ && status === OKAY));
    }
    const { bounce_waits, buffer_pages, free_buffer_pages } = rig.stats();
    t.is(bounce_waits > 0, maxBufferPages <= 256);
    t.is(buffer_pages, free_buffer_pages);
    t.true(free_buffer_pages <= maxBufferPages);
    write(rig, 99n, BlkifOp.READ, 100, segments, lists[0]!);
    rig.ring.push();
    t.is(rig.pump()[0]?.status, OKAY);
    for (const [i, { u8 }] of pages.entries()) t.true(image.subarray((100 + 7 * i) * 512).subarray(0, 7 * 512).equals(u8.subarray(0, 7 * 512)));
    t.is(rig.close(), 0);
    t.like(rig.stats(), { buffer_pages: 0, free_buffer_pages: 0 });
  });
}

test('a request that waits for pages is read from the ring again, and nothing of the first look counts', (t) => {
  const rig = new QueueRig({ alignment: 4096, sectors: 8192, maxBufferPages: 0 });
  const pages = Array.from({ length: 256 }, () => rig.page());
  const [first, second] = [rig.page(), rig.page()];
  write(rig, 1n, BlkifOp.READ, 0, pages.map(({ ref }) => ({ ref, last: 6 })), first);
  const waiting = rig.ring.reqProd;
  write(rig, 2n, BlkifOp.WRITE, 0, pages.map(({ ref }) => ({ ref, last: 6 })), second);
  rig.ring.push();
  t.is(rig.queue.take(), 1);
  t.true(rig.queue.stalled);
  t.is(rig.queue.take(), 0);
  t.is(rig.stats().bounce_waits, 1);
  // The guest changes its mind: the request is now a read of one sector.
  rig.ring.reqProd = waiting;
  write(rig, 3n, BlkifOp.READ, 16, [{ ref: pages[0]!.ref, first: 1, last: 1 }], second);
  t.deepEqual(rig.pump(), [{ id: 1n, op: BlkifOp.READ, status: OKAY }, { id: 3n, op: BlkifOp.READ, status: OKAY }]);
  t.true(pattern(8192 * 512).equals(rig.disk()));
  t.is(rig.close(), 0);
});

test('a host without memory for bounce pages fails the requests that need them, says so once, and serves the others', (t) => {
  const rig = new QueueRig({ alignment: 4096, reserve: () => { throw new Error('ENOMEM'); } });
  const page = rig.page(false, 0xaa);
  for (const op of [BlkifOp.READ, BlkifOp.WRITE]) {
    t.is(rig.request({ op, segments: [{ ref: page.ref, last: 3 }] }).status, ERROR);
    t.is(rig.guest.flags(page.ref), GTF_PERMIT);
  }
  t.true(page.u8.every((byte) => byte === 0xaa));
  t.deepEqual(rig.alerts, ['no-memory']);
  t.is(rig.read(0, [{ ref: page.ref }]).status, OKAY);
  t.like(rig.stats(), { buffer_pages: 0, rd_req: 1 });
  t.is(rig.close(), 0);
});

test('E103: a map that fails on segment 2 of 4 gives every bounce page back', (t) => {
  for (const persistent of [false, true]) {
    const rig = new QueueRig({ alignment: 4096, persistent });
    const pages = Array.from({ length: 4 }, () => rig.page(false, 0xaa));
    for (const bad of [0, 1, 2, 3]) {
      const segments = pages.map(({ ref }, i) => ({ ref: i === bad ? 4000 : ref, last: 4 }));
      t.is(rig.read(0, segments).status, ERROR);
      t.is(rig.write(0, segments).status, ERROR);
      const { buffer_pages, free_buffer_pages } = rig.stats();
      t.deepEqual([buffer_pages, free_buffer_pages], [3, 3]);
    }
    t.true(pages.every(({ u8 }) => u8.every((byte) => byte === 0xaa)));
    t.true(pattern(2048 * 512).equals(rig.disk()));
    t.is(rig.close(), 0);
  }
});

test('a read that fails gives the guest none of the bytes that were in the bounce pages before', (t) => {
  const rig = new QueueRig({ alignment: 4096 });
  const page = rig.page();
  t.is(rig.read(0, [{ ref: page.ref, last: 3 }]).status, OKAY);
  truncateSync(rig.path, 512 * 102);
  page.u8.fill(0xaa);
  t.is(rig.read(200, [{ ref: page.ref, last: 3 }]).status, ERROR);
  t.is(rig.read(100, [{ ref: page.ref, last: 3 }]).status, ERROR);
  t.true(page.u8.every((byte) => byte === 0xaa));
  t.is(rig.close(), 0);
});

test('however pages come and go, each has one user, the count is that of the list, and memory follows', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('get', 'get', 'put', 'limit', 'trim'), fc.nat(30)), { maxLength: 200 }),
      (steps) => {
        const given: number[] = [];
        const pool = new BouncePool(64, 10, (bytes) => ({
          ...arena(bytes),
          discard: (at) => given.push(at / 4096),
        }));
        t.true(pool.open());
        const used = new Set<number>();
        const free = new Set<number>();
        let max = 10;
        const gone = (): void => {
          t.true(given.every((page) => free.has(page)));
          for (const page of given.splice(0)) free.delete(page);
        };
        for (const [step, value] of steps) {
          if (step === 'get' && used.size < 64) {
            const page = pool.get();
            t.false(used.has(page));
            t.true(page >= 0 && page < 64);
            t.true(free.size === 0 || free.has(page));
            free.delete(page);
            used.add(page);
            pool.words[page * 1024] = page;
          } else if (step === 'put' && used.size > 0) {
            const page = [...used][value % used.size]!;
            t.is(pool.words[page * 1024], page);
            used.delete(page);
            free.add(page);
            pool.put(page);
          } else if (step === 'limit') {
            max = value;
            pool.setMax(max);
            gone();
            t.true(pool.count <= max);
          } else if (step === 'trim') {
            pool.trim();
            gone();
            t.true(pool.count <= max);
          }
          t.is(pool.count, free.size);
          t.is(pool.pages, free.size + used.size);
        }
        for (const page of used) pool.put(page);
        pool.close();
        t.deepEqual([pool.count, pool.pages], [0, 0]);
      },
    ),
    { numRuns: 100 },
  );
});

test('E68: max-buffer-pages of -1, a fraction or more than 2^31 is refused in one line; 0 and 2^31 are taken while the disk is in use', async (t) => {
  const lab = new BlockLab();
  const backend = lab.backend(lab.image(2048));
  const front = lab.front();
  await front.connect();
  for (const pages of [-1, 1.5, NaN, Infinity, 2 ** 31 + 1]) {
    await refusedLater(t, 'BLOCK_VALUE', () => backend.setMaxBufferPages(pages));
  }
  for (const pages of [0, MOST_BUFFER_PAGES, 1]) {
    await backend.setMaxBufferPages(pages);
    t.is(await front.transfer(false, 0, [lab.guest.page()]), 0);
  }
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});
