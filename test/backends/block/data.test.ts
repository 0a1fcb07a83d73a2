import test from 'ava';

import { BLKIF_X86_32, BLKIF_X86_64, BlkifOp, BlkifStatus } from '../../../shim/abi/io/blkif.js';
import { writeIndirect } from '../../helpers/fake-frontend-ring.js';
import { pattern, QueueRig } from './rig.js';

for (const abi of [BLKIF_X86_64, BLKIF_X86_32]) {
  test(`reads and writes of every segment shape move exactly their bytes (${abi.name})`, (t) => {
    const rig = new QueueRig({ abi });
    const image = pattern(2048 * 512);
    const pages = Array.from({ length: 11 }, () => rig.page(false, 0xaa));
    const segments = pages.map((page, i) => ({ ref: page.ref, first: i % 8, last: i % 3 === 0 ? 7 : i % 8 }));
    t.deepEqual(rig.read(100, segments).status, BlkifStatus.OKAY);
    let sector = 100;
    for (const [i, { first, last }] of segments.entries()) {
      const bytes = (last - first + 1) * 512;
      const expected = Buffer.alloc(4096, 0xaa);
      image.copy(expected, first * 512, sector * 512, sector * 512 + bytes);
      t.true(expected.equals(pages[i]!.u8), `segment ${i}`);
      sector += last - first + 1;
    }
    const total = sector - 100;
    t.is(rig.write(1000, segments).status, BlkifStatus.OKAY);
    image.copyWithin(1000 * 512, 100 * 512, sector * 512);
    t.true(image.equals(rig.disk()));
    t.like(rig.stats(), { rd_req: 1, wr_req: 1, rd_sect: total, wr_sect: total, errors: 0 });
    t.is(rig.close(), 0);
  });

  test(`indirect requests of 1 and 256 segments move their bytes and answer with the operation inside (${abi.name})`, (t) => {
    const rig = new QueueRig({ abi, sectors: 8192 });
    const image = pattern(8192 * 512);
    const pages = Array.from({ length: 256 }, () => rig.page());
    const list = rig.page();
    for (const count of [1, 12, 256]) {
      const segments = pages.slice(0, count).map(({ ref }) => ({ ref }));
      writeIndirect(list.i32, segments);
      const common = { op: BlkifOp.INDIRECT, indirectRef: list.ref, claim: count };
      const read = rig.request({ ...common, indirectOp: BlkifOp.READ, sector: 64n });
      t.like(read, { op: BlkifOp.READ, status: BlkifStatus.OKAY });
      for (let i = 0; i < count; i++) t.true(image.subarray(64 * 512 + i * 4096).subarray(0, 4096).equals(pages[i]!.u8));
      const write = rig.request({ ...common, indirectOp: BlkifOp.WRITE, sector: 4096n });
      t.like(write, { op: BlkifOp.WRITE, status: BlkifStatus.OKAY });
      t.true(image.subarray(64 * 512, 64 * 512 + count * 4096).equals(rig.disk().subarray(4096 * 512).subarray(0, count * 4096)));
    }
    t.is(rig.close(), 0);
  });
}

test('a ring of sixteen pages serves 512 requests at once, each answered once with its own id', (t) => {
  const rig = new QueueRig({ order: 4, startAt: 0x7fff_fff0 });
  const pages = Array.from({ length: 64 }, () => rig.page());
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 512; i++) {
      const segments = [{ ref: pages[i % 64]!.ref, first: i % 8, last: i % 8 }];
      rig.ring.write({ op: BlkifOp.READ, id: BigInt(i), sector: BigInt(i), segments });
    }
    rig.ring.push();
    const responses = rig.pump();
    t.is(responses.length, 512);
    t.is(new Set(responses.map(({ id }) => id)).size, 512);
    t.true(responses.every(({ op, status }) => op === BlkifOp.READ && status === 0));
  }
  t.is(rig.raised() > 0, true);
  t.is(rig.close(), 0);
});

test('pages that lie together become one buffer, and the data is still right', (t) => {
  const rig = new QueueRig();
  const pages = Array.from({ length: 16 }, () => rig.guest.page()).filter(({ gfn }) => gfn < 0x10_0000);
  const refs = pages.map(({ gfn }) => rig.guest.grant(gfn));
  t.is(pages[1]!.gfn, pages[0]!.gfn + 1);
  t.is(rig.read(0, refs.map((ref) => ({ ref }))).status, 0);
  const image = pattern(2048 * 512);
  for (const [i, page] of pages.entries()) t.true(image.subarray(i * 4096, (i + 1) * 4096).equals(page.u8));
  t.is(rig.close(), 0);
});

test('flush, barrier and flush with data are carried out and counted', (t) => {
  const rig = new QueueRig();
  const page = rig.page(false, 0x5a);
  t.is(rig.request({ op: BlkifOp.FLUSH_DISKCACHE }).status, 0);
  t.is(rig.request({ op: BlkifOp.WRITE_BARRIER }).status, 0);
  t.is(rig.request({ op: BlkifOp.WRITE_BARRIER, sector: 8n, segments: [{ ref: page.ref }] }).status, 0);
  t.is(rig.request({ op: BlkifOp.FLUSH_DISKCACHE, sector: 16n, segments: [{ ref: page.ref }] }).status, 0);
  t.true(rig.disk().subarray(8 * 512, 24 * 512).equals(Buffer.alloc(16 * 512, 0x5a)));
  t.is(rig.stats().f_req, 4);
  t.is(rig.close(), 0);
});

test('a barrier waits for the requests before it and holds back those after it', (t) => {
  const rig = new QueueRig();
  const page = rig.page();
  const order: bigint[] = [];
  const data = { sector: 0n, segments: [{ ref: page.ref }] };
  for (let id = 1n; id <= 4n; id++) rig.ring.write({ op: BlkifOp.READ, id, ...data });
  rig.ring.write({ op: BlkifOp.WRITE_BARRIER, id: 5n, ...data });
  for (let id = 6n; id <= 8n; id++) rig.ring.write({ op: BlkifOp.READ, id, ...data });
  rig.ring.push();
  t.is(rig.queue.take(), 5);
  t.is(rig.queue.take(), 0);
  t.true(rig.queue.stalled);
  for (let i = 0; i < 100 && order.length < 8; i++) {
    rig.step(1);
    order.push(...rig.ring.responses().map(({ id }) => id));
    rig.queue.take();
  }
  t.is(order.indexOf(5n), 4);
  t.is(order.length, 8);
  t.is(rig.close(), 0);
});

test('a discard of an aligned range gives the space back and reads as zeros', (t) => {
  const rig = new QueueRig();
  t.like(rig.request({ op: BlkifOp.DISCARD, sector: 64n, sectors: 128n }), { op: BlkifOp.DISCARD, status: 0 });
  const disk = rig.disk();
  t.true(disk.subarray(64 * 512, 192 * 512).every((byte) => byte === 0));
  const image = pattern(2048 * 512);
  t.true(disk.subarray(0, 64 * 512).equals(image.subarray(0, 64 * 512)));
  t.true(disk.subarray(192 * 512).equals(image.subarray(192 * 512)));
  t.is(rig.stats().ds_req, 1);
  t.is(rig.close(), 0);
});

test('an image that shrank under the guest answers ERROR, not stale bytes', async (t) => {
  const { truncateSync } = await import('node:fs');
  const rig = new QueueRig();
  truncateSync(rig.path, 512 * 102);
  const page = rig.page(false, 0xaa);
  t.is(rig.read(200, [{ ref: page.ref }]).status, BlkifStatus.ERROR);
  t.is(rig.read(100, [{ ref: page.ref }]).status, BlkifStatus.ERROR);
  t.true(page.u8.subarray(1024).every((byte) => byte === 0xaa));
  t.is(rig.read(94, [{ ref: page.ref }]).status, BlkifStatus.OKAY);
  t.is(rig.close(), 0);
});
