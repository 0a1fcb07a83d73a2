import test from 'ava';
import fc from 'fast-check';

import { BLKIF_X86_32, BLKIF_X86_64, BlkifOp, BlkifStatus } from '../../../shim/abi/io/blkif.js';
import { Connection } from '../../../backends/block/connection.js';
import { statisticsBuffer } from '../../../backends/block/statistics.js';
import { XenError } from '../../../shim/observe/errors.js';
import type { ForeignGrants } from '../../../shim/grant-table/foreign.js';
import { GTF_PERMIT, GTF_READING, GTF_WRITING } from '../../helpers/fake-frontend-guest.js';
import { writeIndirect } from '../../helpers/fake-frontend-ring.js';
import { passOn, pattern, QueueRig } from './rig.js';

const { ERROR, EOPNOTSUPP, OKAY } = BlkifStatus;

/** Runs `before` ahead of every map of data pages: the moment between the copy of a request and its use. */
const beforeMap =
  (before: () => void) =>
  (grants: ForeignGrants): ForeignGrants =>
    passOn(grants, {
      mapPages: (batch) => {
        before();
        return grants.mapPages(batch);
      },
    });

test('E56: a producer index 33 ahead halts the ring: no response, no crash, and the connection can still end', (t) => {
  const rig = new QueueRig();
  rig.ring.setReqProd(33);
  t.deepEqual(rig.pump(), []);
  t.true(rig.queue.ring.halted);
  rig.ring.setReqProd(1);
  t.deepEqual(rig.pump(), []);
  t.is(rig.close(), 0);
});

test('E57: attaching to a ring whose indexes are further apart than its size fails with EIO', (t) => {
  const rig = new QueueRig();
  rig.ring.setReqProd(40);
  const settings = [{ ringRefs: rig.ring.refs, kickFd: -1, callFd: -1 }];
  const error = t.throws(() => new Connection(rig.connection.parts, 'x86_64-abi', settings), { instanceOf: XenError });
  t.is(error.errno, 5);
  t.is(rig.close(), 0);
});

test('E58: 12 or 255 segments, or none for a transfer, are ERROR; a flush needs none', (t) => {
  const rig = new QueueRig();
  const { ref } = rig.page();
  const segments = [{ ref }];
  for (const claim of [0, 12, 255]) {
    for (const op of [BlkifOp.READ, BlkifOp.WRITE]) t.like(rig.request({ op, segments, claim }), { op, status: ERROR });
  }
  for (const op of [BlkifOp.WRITE_BARRIER, BlkifOp.FLUSH_DISKCACHE]) {
    t.like(rig.request({ op, segments, claim: 12 }), { op, status: ERROR });
    t.like(rig.request({ op }), { op, status: OKAY });
  }
  t.true(pattern(2048 * 512).equals(rig.disk()));
  t.is(rig.stats().errors, 8);
  t.is(rig.close(), 0);
});

test('E59: a segment that ends before it begins or beyond its page is ERROR, so is a write to a readonly disk', (t) => {
  const rig = new QueueRig({ readonly: true });
  const { ref } = rig.page();
  const bad = [[5, 2], [0, 8], [8, 8], [255, 255], [0, 255]] as const;
  for (const [first, last] of bad) t.is(rig.read(0, [{ ref }, { ref, first, last }]).status, ERROR);
  t.is(rig.read(0, [{ ref }]).status, OKAY);
  t.is(rig.write(0, [{ ref }]).status, ERROR);
  t.is(rig.request({ op: BlkifOp.WRITE_BARRIER, segments: [{ ref }] }).status, ERROR);
  t.is(rig.request({ op: BlkifOp.FLUSH_DISKCACHE, segments: [{ ref }] }).status, ERROR);
  t.is(rig.request({ op: BlkifOp.FLUSH_DISKCACHE }).status, OKAY);
  t.is(rig.close(), 0);
});

test('E60: positions beyond the end or wrapping past 2^64 are ERROR; so are pieces of a 4 KiB sector', (t) => {
  const rig = new QueueRig({ sectors: 2048 });
  const { ref } = rig.page();
  const far = [2041n, 2048n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 8n, 2n ** 64n - 1n];
  for (const sector of far) {
    for (const op of [BlkifOp.READ, BlkifOp.WRITE]) {
      t.is(rig.request({ op, sector, segments: [{ ref }] }).status, ERROR, `${sector}`);
    }
  }
  t.is(rig.read(2040, [{ ref }]).status, OKAY);
  t.is(rig.close(), 0);
  const large = new QueueRig({ sectorSize: 4096 });
  const page = large.page();
  t.is(large.read(4, [{ ref: page.ref }]).status, ERROR);
  t.is(large.read(8, [{ ref: page.ref, last: 3 }]).status, ERROR);
  t.is(large.read(8, [{ ref: page.ref, last: 3 }, { ref: page.ref, first: 4 }]).status, OKAY);
  t.is(large.request({ op: BlkifOp.DISCARD, sector: 4n, sectors: 8n }).status, ERROR);
  t.is(large.close(), 0);
});

test('E61: a request rewritten after it was published is served as it was copied', (t) => {
  let rewrite = (): void => {};
  const rig = new QueueRig({ wrapGrants: beforeMap(() => { rewrite(); }) });
  const page = rig.page(false, 0xaa);
  const index = rig.ring.reqProd;
  let rewritten = 0;
  rewrite = () => {
    rewritten++;
    // A write of 255 segments at another place, with another id.
    for (let word = 0; word < 28; word++) rig.ring.set(index, word, -1);
    rig.ring.set(index, 0, BlkifOp.WRITE | (255 << 8));
  };
  rig.ring.write({ op: BlkifOp.READ, id: 77n, sector: 16n, segments: [{ ref: page.ref, first: 2, last: 5 }] });
  rig.ring.push();
  t.deepEqual(rig.pump(), [{ id: 77n, op: BlkifOp.READ, status: OKAY }]);
  t.is(rewritten, 1);
  const image = pattern(2048 * 512);
  t.true(image.subarray(16 * 512, 20 * 512).equals(page.u8.subarray(1024, 3072)));
  t.true(page.u8.subarray(0, 1024).every((byte) => byte === 0xaa));
  t.true(page.u8.subarray(3072).every((byte) => byte === 0xaa));
  t.true(image.equals(rig.disk()));
  t.is(rig.close(), 0);
});

test('E62: operations 4, 7 and 255 are EOPNOTSUPP, named in the response', (t) => {
  for (const abi of [BLKIF_X86_64, BLKIF_X86_32]) {
    const rig = new QueueRig({ abi });
    for (const op of [4, 7, 255]) t.like(rig.request({ op, claim: 3 }), { op, status: EOPNOTSUPP });
    t.is(rig.close(), 0);
  }
});

test('E63: an indirect request with 257 segments, none, a wrong operation or a bad gref is ERROR with the operation inside', (t) => {
  const rig = new QueueRig();
  const page = rig.page();
  const list = rig.page();
  writeIndirect(list.i32, [{ ref: page.ref }]);
  const good = { op: BlkifOp.INDIRECT, indirectOp: BlkifOp.READ, indirectRef: list.ref, claim: 1 };
  for (const claim of [0, 257, 0xffff]) t.like(rig.request({ ...good, claim }), { op: BlkifOp.READ, status: ERROR });
  for (const indirectOp of [BlkifOp.WRITE_BARRIER, BlkifOp.DISCARD, BlkifOp.INDIRECT, 255]) {
    t.like(rig.request({ ...good, indirectOp }), { op: indirectOp, status: ERROR });
  }
  for (const indirectRef of [0, 100_000, 0xffff_ffff]) {
    t.like(rig.request({ ...good, indirectRef }), { op: BlkifOp.READ, status: ERROR });
  }
  writeIndirect(list.i32, [{ ref: 99_999 }]);
  t.like(rig.request(good), { op: BlkifOp.READ, status: ERROR });
  writeIndirect(list.i32, [{ ref: page.ref, first: 3, last: 2 }]);
  t.like(rig.request(good), { op: BlkifOp.READ, status: ERROR });
  writeIndirect(list.i32, [{ ref: page.ref }]);
  t.like(rig.request(good), { op: BlkifOp.READ, status: OKAY });
  t.is(rig.close(), 0);
});

test('E64: an indirect page edited after it was read has no effect', (t) => {
  let edit = (): void => {};
  const rig = new QueueRig({ wrapGrants: beforeMap(() => { edit(); }) });
  const page = rig.page(false, 0xaa);
  const other = rig.page(false, 0xbb);
  const list = rig.page();
  writeIndirect(list.i32, [{ ref: page.ref, first: 1, last: 1 }]);
  let edited = 0;
  edit = () => {
    edited++;
    writeIndirect(list.i32, [{ ref: other.ref, first: 0, last: 255 }]);
  };
  const request = { op: BlkifOp.INDIRECT, indirectOp: BlkifOp.READ, indirectRef: list.ref, claim: 1, sector: 9n };
  t.like(rig.request(request), { status: OKAY });
  t.is(edited, 1);
  t.true(pattern(2048 * 512).subarray(9 * 512, 10 * 512).equals(page.u8.subarray(512, 1024)));
  t.true(page.u8.subarray(1024).every((byte) => byte === 0xaa));
  t.true(other.u8.every((byte) => byte === 0xbb));
  t.is(rig.close(), 0);
});

test('E69: pages are no longer in use by the time the response index is visible', (t) => {
  const seen: number[] = [];
  const rig: QueueRig = new QueueRig({
    wrapGrants: (grants) => passOn(grants, {
      unmapHandles: (batch) => {
        seen.push(rig.ring.rspProd);
        grants.unmapHandles(batch);
      },
    }),
  });
  const pages = Array.from({ length: 4 }, () => rig.page());
  rig.read(0, pages.map(({ ref }) => ({ ref })));
  t.deepEqual(seen, [0]);
  t.is(rig.ring.rspProd, 1);
  for (const { ref } of pages) t.is(rig.guest.flags(ref), GTF_PERMIT);
  t.is(rig.close(), 0);
});

test('E70: a discard of nothing, past the end or wrapping is ERROR; where disabled it is EOPNOTSUPP', (t) => {
  for (const abi of [BLKIF_X86_64, BLKIF_X86_32]) {
    const rig = new QueueRig({ abi });
    const op = BlkifOp.DISCARD;
    const bad: [bigint, bigint][] = [
      [0n, 0n], [2048n, 1n], [2047n, 2n], [0n, 2049n], [8n, 2n ** 64n - 8n], [2n ** 64n - 8n, 16n], [0n, 2n ** 63n],
    ];
    for (const [sector, sectors] of bad) t.like(rig.request({ op, sector, sectors }), { op, status: ERROR });
    t.like(rig.request({ op, sector: 2040n, sectors: 8n, flag: 1 }), { op, status: OKAY });
    t.is(rig.close(), 0);
    const disabled = new QueueRig({ abi, discard: false });
    t.like(disabled.request({ op, sector: 0n, sectors: 8n }), { op, status: EOPNOTSUPP });
    t.true(pattern(2048 * 512).equals(disabled.disk()));
    t.is(disabled.close(), 0);
    const readonly = new QueueRig({ abi, discard: false, readonly: true });
    t.like(readonly.request({ op, sector: 0n, sectors: 8n }), { op, status: ERROR });
    t.is(readonly.close(), 0);
  }
});

test('E103: a map that fails on segment 2 of 4 leaves no page pinned and moves nothing', (t) => {
  const rig = new QueueRig();
  const pages = Array.from({ length: 4 }, () => rig.page(false, 0xaa));
  for (const bad of [0, 1, 2, 3]) {
    const segments = pages.map(({ ref }, i) => ({ ref: i === bad ? 4000 : ref }));
    t.is(rig.read(0, segments).status, ERROR);
    t.is(rig.write(0, segments).status, ERROR);
    for (const { ref } of pages) t.is(rig.guest.flags(ref), GTF_PERMIT);
  }
  t.true(pages.every(({ u8 }) => u8.every((byte) => byte === 0xaa)));
  t.true(pattern(2048 * 512).equals(rig.disk()));
  t.is(rig.close(), 0);
});

test('E104: a read into a readonly grant is ERROR and the page keeps its bytes', (t) => {
  const rig = new QueueRig();
  const page = rig.page(true, 0xaa);
  t.is(rig.read(0, [{ ref: page.ref }]).status, ERROR);
  t.true(page.u8.every((byte) => byte === 0xaa));
  t.is(rig.close(), 0);
});

test('E105: a write from a readonly grant is OKAY, its page only read from', (t) => {
  let flags = 0;
  const rig: QueueRig = new QueueRig({
    wrapGrants: (grants) => passOn(grants, {
      unmapHandles: (batch) => {
        flags = rig.guest.flags(page.ref);
        grants.unmapHandles(batch);
      },
    }),
  });
  const page = rig.page(true, 0xcc);
  t.is(rig.write(40, [{ ref: page.ref }]).status, OKAY);
  t.is(flags & (GTF_READING | GTF_WRITING), GTF_READING);
  t.true(rig.disk().subarray(40 * 512, 48 * 512).equals(Buffer.alloc(4096, 0xcc)));
  t.is(rig.close(), 0);
});

test('the same page in every segment is pinned and given back once per segment', (t) => {
  const rig = new QueueRig();
  const { ref, u8 } = rig.page();
  t.is(rig.read(0, Array.from({ length: 11 }, () => ({ ref }))).status, OKAY);
  // Which of the eleven came last is the disk's choice; that it is one of them is not.
  const image = pattern(2048 * 512);
  t.true(Array.from({ length: 11 }, (_, i) => image.subarray(i * 4096, i * 4096 + 4096)).some((part) => part.equals(u8)));
  t.is(rig.guest.flags(ref), GTF_PERMIT);
  t.is(rig.close(), 0);
});

test('E112: a read whose page is the ring itself ends that ring at most', (t) => {
  for (let sector = 0; sector < 64; sector++) {
    const rig = new QueueRig();
    rig.ring.write({ op: BlkifOp.READ, id: 1n, sector: BigInt(sector), segments: [{ ref: rig.ring.refs[0]! }] });
    rig.ring.push();
    t.notThrows(() => rig.pump());
    t.true(rig.queue.ring.halted || rig.queue.inflight === 0);
    t.is(rig.close(), 0);
  }
});

test('E111: two rings on one page disturb each other and nobody else', (t) => {
  const rig = new QueueRig();
  const settings = { ringRefs: rig.ring.refs, kickFd: -1, callFd: rig.callFd };
  const parts = { ...rig.connection.parts, statistics: statisticsBuffer(2) };
  const twins = new Connection(parts, 'x86_64-abi', [settings, settings]);
  const reap = (): void => {
    const count = rig.uring.completions();
    for (let i = 0; i < count; i++) {
      twins.queues[rig.uring.userHi(i)]!.queue.complete(rig.uring.userLo(i), rig.uring.result(i));
    }
    rig.uring.consume(count);
  };
  const { ref } = rig.page();
  for (let i = 0; i < 20; i++) rig.ring.write({ op: BlkifOp.READ, id: BigInt(i), segments: [{ ref }] });
  rig.ring.setReqProd(20);
  t.notThrows(() => {
    for (let round = 0; round < 40; round++) {
      for (const { queue } of twins.queues) {
        queue.pausedUntil = 0;
        queue.take();
      }
      rig.uring.enter(0, -1);
      reap();
      for (const { queue } of twins.queues) if (queue.inflight === 0) queue.publish();
    }
  });
  while (twins.queues.some(({ queue }) => queue.inflight > 0)) {
    rig.uring.enter(1, 1_000_000);
    reap();
  }
  for (const { queue } of twins.queues) queue.publish();
  twins.release();
  t.is(rig.close(), 0);
});

test('E113: a grant of a frame that is not RAM is ERROR', (t) => {
  const rig = new QueueRig();
  for (const gfn of [0x8_0000, 0xf_eb00, 0x7fff_ffff]) {
    const ref = rig.guest.grant(gfn);
    t.is(rig.read(0, [{ ref }]).status, ERROR);
    t.is(rig.guest.flags(ref), GTF_PERMIT);
  }
  t.is(rig.close(), 0);
});

test('E67: a grant revoked while its request is in flight stays pinned until the answer', (t) => {
  const rig = new QueueRig();
  const page = rig.page();
  rig.ring.write({ op: BlkifOp.READ, id: 1n, sector: 8n, segments: [{ ref: page.ref }] });
  rig.ring.push();
  rig.queue.take();
  t.false(rig.guest.end(page.ref));
  rig.guest.setEntry(page.ref, 0, 0);
  rig.step(1);
  t.is(rig.ring.responses()[0]?.status, OKAY);
  t.true(pattern(2048 * 512).subarray(8 * 512, 16 * 512).equals(page.u8));
  t.is(rig.close(), 0);
});

test('no bytes of a response beyond its fields come from this process', (t) => {
  for (const [abi, words] of [[BLKIF_X86_64, 4], [BLKIF_X86_32, 3]] as const) {
    const rig = new QueueRig({ abi });
    const { ref } = rig.page();
    const slot = rig.ring.reqProd;
    rig.ring.write({ op: BlkifOp.READ, id: 0x0102030405060708n, sector: 0n, segments: [{ ref }] });
    const before = Array.from({ length: 27 }, (_, word) => rig.ring.get(slot, word));
    rig.ring.push();
    rig.pump();
    const expected = [0x05060708, 0x01020304, 0, 0].slice(0, words);
    t.deepEqual(Array.from({ length: words }, (_, word) => rig.ring.get(slot, word)), expected);
    for (let word = words; word < 27; word++) t.is(rig.ring.get(slot, word), before[word]!);
    t.is(rig.close(), 0);
  }
});

test('whatever is in the slots, every request gets one answer, no pin is left and the readonly disk is whole', (t) => {
  const image = pattern(2048 * 512);
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.oneof(fc.integer(), fc.nat(300)), { minLength: 28, maxLength: 28 }), { minLength: 1, maxLength: 32 }),
      fc.constantFrom(BLKIF_X86_64, BLKIF_X86_32),
      (slots, abi) => {
        const rig = new QueueRig({ abi, readonly: true, discard: false });
        // Some of the references that random small numbers hit are good ones.
        for (let i = 0; i < 200; i++) rig.page(i % 3 === 0);
        // Not into the ring itself: what is read there overwrites requests and indexes (E112).
        const harmless = (word: number): number => (rig.ring.refs.includes(word) ? 0 : word);
        for (const words of slots) {
          rig.ring.write({ op: 0, id: 0n });
          for (let at = 0; at < abi.slotBytes / 4; at++) rig.ring.set(rig.ring.reqProd - 1, at, harmless(words[at]!));
        }
        rig.ring.push();
        t.is(rig.pump().length, slots.length);
        t.is(rig.queue.ring.unanswered, 0);
        t.true(image.equals(rig.disk()));
        t.is(rig.close(), 0);
      },
    ),
    { numRuns: 60 },
  );
});

test('a barrier behind a request whose page cannot be had goes ahead, and a request behind both is served', (t) => {
  const rig = new QueueRig();
  const page = rig.page(false, 0x5a);
  const bad = rig.page();
  rig.guest.setEntry(bad.ref, bad.gfn, 0);
  rig.ring.write({ op: BlkifOp.READ, id: 1n, sector: 0n, segments: [{ ref: bad.ref }] });
  rig.ring.write({ op: BlkifOp.WRITE_BARRIER, id: 2n, sector: 64n, segments: [{ ref: page.ref }] });
  rig.ring.write({ op: BlkifOp.READ, id: 3n, sector: 64n, segments: [{ ref: page.ref }] });
  rig.ring.push();
  const answers = rig.pump();
  t.deepEqual(answers.map(({ id, status }) => [id, status]), [[1n, ERROR], [2n, OKAY], [3n, OKAY]]);
  t.true(rig.disk().subarray(64 * 512, 72 * 512).equals(Buffer.alloc(4096, 0x5a)));
  t.is(rig.close(), 0);
});
