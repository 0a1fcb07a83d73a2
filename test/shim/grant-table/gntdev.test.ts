import test from 'ava';
import { Gntst } from '../../../shim/abi/grant-table.js';
import { Gntdev, type GrantMapping } from '../../../shim/grant-table/gntdev.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { DOMID, fixture, HIGH_GFN, LOW_GFN, PERMIT, READING, READONLY, WRITING } from './fixture.js';

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
  t.is(mapping.buffers.length, 0);
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
