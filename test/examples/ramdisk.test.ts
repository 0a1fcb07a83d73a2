import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';

import { loadBackend, parseBackend } from '../../cli/run/backend-option.js';
import { OtherBackends } from '../../cli/run/other-backends.js';
import { BLKIF_X86_32, BLKIF_X86_64, BlkifOp, BlkifStatus } from '../../shim/abi/io/blkif.js';
import { Gntst } from '../../shim/abi/grant-table.js';
import { XenbusState } from '../../shim/abi/io/xenbus.js';
import { silentLog } from '../../shim/observe/log.js';
import { errorPath } from '../../shim/xenbus/paths.js';
import { localClient } from '../../shim/xenstore/local-client.js';
import { Store } from '../../shim/xenstore/store.js';
import { FakeBlkfront, type BlkfrontOptions } from '../helpers/fake-frontend-blkif.js';
import { FakeGuest, type GuestPage } from '../helpers/fake-frontend-guest.js';
import { FakePorts } from '../helpers/fake-frontend-ports.js';

/** The example's disk as `xenshim run` has it, and frontends for it. */
class RamDiskLab {
  readonly store = localClient(new Store());
  readonly ports = new FakePorts();
  readonly guest = new FakeGuest();
  readonly id = { kind: 'vbd', domid: 1, id: 51712 + 16 * 3 };

  private constructor(readonly backends: OtherBackends) {}

  static async open(): Promise<RamDiskLab> {
    const file = fileURLToPath(new URL('../../docs/examples/ramdisk/ramdisk.js', import.meta.url));
    const part = await loadBackend(parseBackend(`${file},vdev=xvdd,mib=1`));
    const lab = new RamDiskLab(new OtherBackends([part], silentLog));
    const { store, ports, guest } = lab;
    lab.backends.start({ domid: 1, store, ports, handles: () => guest.handles, attached: guest.attached, threadLost: () => {} });
    return lab;
  }

  front(options: Partial<BlkfrontOptions> = {}): FakeBlkfront {
    const { store, guest, ports, id } = this;
    return new FakeBlkfront({ store, guest, ports, id, ...options });
  }

  page(text: string): GuestPage {
    const page = this.guest.page();
    page.u8.set(Buffer.alloc(4096, text));
    return page;
  }

  /** Ends everything; grant handles, pins and channels that were left. */
  async close(): Promise<number> {
    await this.backends.letGo();
    await this.backends.close();
    const { handles, pinnedRefs } = this.guest.stats();
    this.guest.close();
    return handles + pinnedRefs + this.ports.bound;
  }
}

const text = ({ u8 }: GuestPage): string => Buffer.from(u8.subarray(0, 5)).toString();

for (const abi of [BLKIF_X86_64, BLKIF_X86_32]) {
  test(`a frontend finds the disk, writes, reads, flushes, leaves, and finds its data when it is back (${abi.name})`, async (t) => {
    const lab = await RamDiskLab.open();
    const front = lab.front({ abi });
    await front.connect();
    t.is(front.backendKey('sectors'), '2048');
      const written = ['one..', 'two..', 'three', 'four.'].map((word) => lab.page(word));
    t.is(await front.transfer(true, 2048 - 32, written), BlkifStatus.OKAY);
    t.is(await front.flush(), BlkifStatus.OKAY);
    await front.disconnect();
    t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
    t.is(lab.ports.bound, 0);

    const again = lab.front({ abi });
    await again.connect();
    const read = [lab.page('?'), lab.page('?')];
    t.is(await again.transfer(false, 2048 - 24, read), BlkifStatus.OKAY);
    t.deepEqual(read.map(text), ['two..', 'three']);
    await again.disconnect();
    t.deepEqual([...front.complaints, ...again.complaints], []);
    t.is(await lab.close(), 0);
  });
}

test('every request of a full ring is answered, and parts of pages move only their sectors', async (t) => {
  const lab = await RamDiskLab.open();
  const front = lab.front();
  await front.connect();
  const page = lab.page('guest');
  const ref = lab.guest.grant(page.gfn);
  const requests = Array.from({ length: 32 }, (_, i) =>
    front.send(0, { op: BlkifOp.WRITE, sector: BigInt(i), segments: [{ ref, first: i % 8, last: i % 8 }] }, []));
  t.deepEqual(await Promise.all(requests), new Array(32).fill(BlkifStatus.OKAY));
  page.u8.fill(0);
  const read = { op: BlkifOp.READ, sector: 8n, segments: [{ ref, first: 2, last: 5 }] };
  t.is(await front.send(0, read, []), BlkifStatus.OKAY);
  // Sectors 8 to 11 were written from the first four of the page.
  t.deepEqual(Buffer.from(page.u8.subarray(0, 1024)), Buffer.alloc(1024));
  t.deepEqual(Buffer.from(page.u8.subarray(1024, 3072)), Buffer.alloc(4096, 'guest').subarray(0, 2048));
  t.deepEqual(Buffer.from(page.u8.subarray(3072)), Buffer.alloc(1024));
  lab.guest.end(ref);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('requests that are wrong are answered with an error, and the disk goes on', async (t) => {
  const lab = await RamDiskLab.open();
  const front = lab.front();
  await front.connect();
  const page = lab.page('guest');
  const ref = lab.guest.grant(page.gfn);
  const readonly = lab.guest.grant(page.gfn, true);
  const { READ, WRITE, DISCARD } = BlkifOp;
  const twelve = Array.from({ length: 12 }, () => ({ ref }));
  for (const [request, status] of [
    [{ op: READ, sector: 2047n, segments: [{ ref }] }, BlkifStatus.ERROR],
    [{ op: READ, sector: 2n ** 55n, segments: [{ ref }] }, BlkifStatus.ERROR],
    [{ op: WRITE, sector: 2n ** 64n - 1n, segments: [{ ref }] }, BlkifStatus.ERROR],
    [{ op: READ, segments: [] }, BlkifStatus.ERROR],
    [{ op: READ, segments: twelve }, BlkifStatus.ERROR],
    [{ op: READ, segments: [{ ref, first: 3, last: 2 }] }, BlkifStatus.ERROR],
    [{ op: READ, segments: [{ ref, first: 0, last: 8 }] }, BlkifStatus.ERROR],
    [{ op: READ, segments: [{ ref: readonly }] }, BlkifStatus.ERROR],
    [{ op: READ, segments: [{ ref }, { ref: 0x7fff_ffff }] }, BlkifStatus.ERROR],
    [{ op: DISCARD, sectors: 8n }, BlkifStatus.EOPNOTSUPP],
    [{ op: 99 }, BlkifStatus.EOPNOTSUPP],
    [{ op: READ, segments: [{ ref }] }, BlkifStatus.OKAY],
  ] as const) {
    t.is(await front.send(0, request, []), status, `operation ${request.op}`);
  }
  lab.guest.end(ref);
  lab.guest.end(readonly);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('a frontend whose keys are no good is told so, and the next one is served', async (t) => {
  const lab = await RamDiskLab.open();
  for (const keys of [{ 'ring-ref': '99999' }, { 'event-channel': '77' }, { 'ring-ref': undefined }]) {
    const front = lab.front({ keys });
    await t.throwsAsync(front.connect(), { message: 'backend refused' });
    t.regex(lab.store.read(errorPath(lab.id)) ?? '', /^22 /);
    t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
    front.setState(XenbusState.Closed);
    await front.waitBackend(XenbusState.Closed);
    front.takeBack();
  }
  const front = lab.front();
  await front.connect();
  t.is(await front.flush(), BlkifStatus.OKAY);
  // An index no frontend can have: nothing is served any more, and closing works all the same.
  front.queues[0]!.ring.setReqProd(1_000_000);
  lab.ports.send(front.queues[0]!.port);
  await front.disconnect();
  t.is(await lab.close(), 0);
});

test('a reset of the machine in the middle of requests leaves nothing pinned, and the disk is there again with its data', async (t) => {
  const lab = await RamDiskLab.open();
  const front = lab.front();
  await front.connect();
  t.is(await front.transfer(true, 0, [lab.page('first')]), BlkifStatus.OKAY);
  for (let i = 0; i < 8; i++) void front.transfer(true, 8 + i * 8, [lab.page('later')]);
  await lab.backends.letGo();
  t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
  t.is(lab.ports.bound, 0);
  lab.backends.restart();
  const next = lab.front();
  await next.connect();
  const page = lab.page('?');
  t.is(await next.transfer(false, 0, [page]), BlkifStatus.OKAY);
  t.is(text(page), 'first');
  await next.disconnect();
  t.deepEqual(next.complaints, []);
  t.is(await lab.close(), 0);
});

test('a page that is paged out is waited for; a reset in the middle of the wait, of a request or of the ring, ends it', async (t) => {
  const lab = await RamDiskLab.open();
  const { frames } = lab.guest.attached.grantTable;
  const page = lab.page('paged');
  let absent = 4;
  let asked = 0;
  let away = page.gfn;
  frames.residency = {
    idle: false,
    pin: (gfn) => {
      if (gfn !== away) return Gntst.okay;
      asked++;
      return absent-- > 0 ? Gntst.eagain : Gntst.okay;
    },
    unpin: () => {},
    wrote: () => {},
  };
  const front = lab.front();
  await front.connect();
  t.is(await front.transfer(true, 0, [page]), BlkifStatus.OKAY);
  t.is(asked, 5);
  absent = Infinity;
  void front.transfer(true, 8, [page]);
  while (asked === 5) await new Promise(setImmediate);
  await lab.backends.letGo();
  t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
  t.is(lab.ports.bound, 0);

  lab.backends.restart();
  const next = lab.front();
  await next.initialise();
  away = next.queues[0]!.ring.pages[0]!.gfn;
  asked = 0;
  while (asked === 0) await new Promise(setImmediate);
  await lab.backends.letGo();
  t.is(lab.ports.bound, 0);
  t.is(await lab.close(), 0);
});

test('the example is under 100 lines and imports nothing but the backend kit', (t) => {
  const source = readFileSync(new URL('../../../docs/examples/ramdisk/ramdisk.ts', import.meta.url), 'utf8');
  t.true(source.trimEnd().split('\n').length < 100);
  t.deepEqual([...source.matchAll(/from '([^']+)'/g)].map(([, module]) => module), ['xenshim/backend-kit']);
});
