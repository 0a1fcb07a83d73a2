import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Gntst } from '../../../shim/abi/grant-table.js';
import { Gntdev as GntdevOf, type GrantMapping } from '../../../shim/grant-table/gntdev.js';
import type { GrantTable } from '../../../shim/grant-table/table.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { IoUring, UringOp } from '../../../shim/io/uring.js';
import { FakeGuest } from '../../helpers/fake-frontend-guest.js';
import { DOMID, fixture, HIGH_GFN, LOW_GFN, PERMIT, READING, READONLY, WRITING } from './fixture.js';

/** Of a guest whose RAM has no files: see the places below for one that has. */
class Gntdev extends GntdevOf {
  constructor(grantTable: GrantTable) {
    super({ grantTable, shared: () => [] });
  }
}

function mapped(mapping: GrantMapping | number): GrantMapping {
  if (typeof mapping === 'number') throw new Error(`status ${mapping}`);
  return mapping;
}

test('a mapping’s buffers are the guest’s own pages, in the order asked for, until it is unmapped', async (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN + 5);
  f.grant(9, HIGH_GFN + 1);
  const mapping = mapped(await new Gntdev(f.table).map(DOMID, [9, 8]));
  t.is(mapping.buffers.length, 2);
  mapping.buffers[0]![7] = 42;
  t.is(f.memory.windows[1]!.u8[PAGE_SIZE + 7], 42);
  t.is(mapping.buffers[1]!.byteLength, PAGE_SIZE);
  t.deepEqual(mapping.addresses, [f.memory.windows[1]!.hva + PAGE_SIZE, f.memory.windows[0]!.hva + 5 * PAGE_SIZE]);
  t.is(f.flags(8), PERMIT | READING | WRITING);
  t.is(mapping.unmap(), Gntst.okay);
  t.deepEqual([f.flags(8), f.flags(9)], [PERMIT, PERMIT]);
  t.deepEqual([mapping.buffers, mapping.addresses, mapping.place(0)], [[], [], undefined]);
});

test('E13: a mapping is unmapped once: again nothing is issued, though another has the handle by now', async (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  const gntdev = new Gntdev(f.table);
  const first = mapped(await gntdev.map(DOMID, [8]));
  t.is(first.unmap(), Gntst.okay);
  const second = mapped(await gntdev.map(DOMID, [8]));
  t.is(first.unmap(), Gntst.okay);
  t.is(f.table.stats().pinnedRefs, 1);
  t.is(second.unmap(), Gntst.okay);
});

test('all or none: one bad reference leaves nothing mapped and gives its status', async (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  f.grant(9, LOW_GFN + 1, PERMIT | READONLY);
  const gntdev = new Gntdev(f.table);
  t.is(await gntdev.map(DOMID, [8, 99_999]), Gntst.bad_gntref);
  t.is(await gntdev.map(DOMID, [8, 9]), Gntst.general_error);
  t.is(await gntdev.map(DOMID, []), Gntst.general_error);
  t.is(await gntdev.map(DOMID + 1, [8]), Gntst.bad_domain);
  t.is(f.table.stats().pinnedRefs, 0);
  t.is(mapped(await gntdev.map(DOMID, [8, 9], { readonly: true })).unmap(), Gntst.okay);
});

test('E12: pages that are paged out are waited for without keeping the thread, and an abort ends the wait', async (t) => {
  const f = fixture();
  let absent = 4;
  for (let i = 0; i < 3; i++) f.grant(8 + i, LOW_GFN + i);
  f.table.frames.residency = {
    idle: false,
    pin: (gfn) => (gfn === LOW_GFN + 1 && absent-- > 0 ? Gntst.eagain : Gntst.okay),
    unpin: () => {},
    wrote: () => {},
  };
  const gntdev = new Gntdev(f.table);
  const mapping = mapped(await gntdev.map(DOMID, [8, 9, 10], { sleep: () => Promise.resolve() }));
  t.is(mapping.buffers.length, 3);
  mapping.unmap();
  absent = Infinity;
  const abort = new AbortController();
  const waits = gntdev.map(DOMID, [8, 9, 10], { signal: abort.signal });
  abort.abort();
  t.is(await waits, Gntst.bad_page);
  t.is(f.table.stats().pinnedRefs, 0);
});

test('releaseAll ends what is mapped and what waits, and the device can be used again', async (t) => {
  const f = fixture();
  for (let i = 0; i < 3; i++) f.grant(8 + i, LOW_GFN + i);
  f.table.frames.residency = {
    idle: false,
    pin: (gfn) => (gfn === LOW_GFN + 2 ? Gntst.eagain : Gntst.okay),
    unpin: () => {},
    wrote: () => {},
  };
  const gntdev = new Gntdev(f.table);
  const first = mapped(await gntdev.map(DOMID, [8]));
  const waits = gntdev.map(DOMID, [9, 10]);
  t.is(gntdev.releaseAll(), 1);
  t.is(await waits, Gntst.bad_page);
  t.deepEqual([first.buffers.length, f.table.stats().pinnedRefs], [0, 0]);
  mapped(await gntdev.map(DOMID, [8])).unmap();
  t.is(gntdev.releaseAll(), 0);
});

test('a mapping that a reset of the machine has ended does not end one made since', async (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  const gntdev = new Gntdev(f.table);
  const old = mapped(await gntdev.map(DOMID, [8]));
  f.table.reset();
  f.grant(8, LOW_GFN);
  const fresh = mapped(await gntdev.map(DOMID, [8]));
  t.is(old.unmap(), Gntst.bad_handle);
  t.is(f.flags(8), PERMIT | READING | WRITING);
  t.is(fresh.unmap(), Gntst.okay);
  t.is(f.flags(8), PERMIT);
});

test('the buffers go straight into io_uring: a file is read into the guest’s page by its address', async (t) => {
  const guest = new FakeGuest(64);
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-gntdev-'));
  const file = join(dir, 'file');
  writeFileSync(file, Buffer.alloc(PAGE_SIZE, 'guest'));
  const fd = openSync(file, 'r');
  const uring = new IoUring(4, 8);
  t.teardown(() => {
    uring.close();
    closeSync(fd);
    guest.close();
    rmSync(dir, { recursive: true });
  });
  const page = guest.page();
  const mapping = mapped(await new GntdevOf(guest.attached).map(guest.domid, [guest.grant(page.gfn)]));
  const [address] = mapping.addresses;
  uring.push(UringOp.READ, 0, fd, 0, 0, address! | 0, Math.floor(address! / 2 ** 32), PAGE_SIZE, 0, 0, 0);
  uring.enter(1, 5_000_000);
  t.is(uring.result(0), PAGE_SIZE);
  t.deepEqual(Buffer.from(page.u8), Buffer.alloc(PAGE_SIZE, 'guest'));
  t.is(mapping.unmap(), Gntst.okay);
});

test('a second process finds the guest’s page at its place', async (t) => {
  const guest = new FakeGuest(64);
  t.teardown(() => guest.close());
  const pages = [guest.page(), guest.page()];
  const mapping = mapped(await new GntdevOf(guest.attached).map(guest.domid, pages.map(({ gfn }) => guest.grant(gfn))));
  for (const [i, page] of pages.entries()) {
    const { fd, offset } = mapping.place(i)!;
    const script = `require('fs').writeSync(3, Buffer.from('page ${i}'), 0, 6, ${offset})`;
    t.is(spawnSync(process.execPath, ['-e', script], { stdio: ['ignore', 'inherit', 'inherit', fd] }).status, 0);
    t.is(Buffer.from(page.u8.subarray(0, 6)).toString(), `page ${i}`);
  }
  t.is(mapping.unmap(), Gntst.okay);
  t.is(mapping.place(0), undefined);
});
