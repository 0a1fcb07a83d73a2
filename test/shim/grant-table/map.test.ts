import test from 'ava';
import { Gntst } from '../../../shim/abi/grant-table.js';
import { MapBatch, type PageChanged } from '../../../shim/grant-table/foreign.js';
import { shimHcallGntmap } from '../../../shim/grant-table/shim-gntmap.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import {
  DOMID,
  fixture,
  HIGH_GFN,
  LOW_GFN,
  PERMIT,
  READING,
  READONLY,
  WRITING,
  type Fixture,
} from './fixture.js';

const nobody: PageChanged = () => {};

function mapFlags(f: Fixture, ref: number, flags: number, hostAddr = 0, domid = DOMID): number {
  f.table.enter();
  const result = shimHcallGntmap(f.table, hostAddr, flags, ref, domid);
  f.table.leave();
  return result;
}

test('E01: a backend that asks for no host mapping is handed the page itself', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN + 3);
  const pages: [number, number, number][] = [];
  const handle = f.grants.mapOne(8, false, 77, (context, window, offset) => pages.push([context, window.gfn, offset]));
  t.true(handle >= 0);
  t.deepEqual(pages, [[77, LOW_GFN, 3 * PAGE_SIZE]]);
  t.is(f.flags(8), PERMIT | READING | WRITING);
  t.is(f.grants.unmapOne(handle), Gntst.okay);
  t.is(f.flags(8), PERMIT);
});

test('a shim map with a host address, other flags or another domain is refused before the entry is looked at', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  t.is(mapFlags(f, 8, 0, 0x1000), Gntst.bad_virt_addr);
  t.is(mapFlags(f, 8, 2), Gntst.bad_gntref);
  t.is(mapFlags(f, 8, 4 | 16), Gntst.bad_gntref);
  t.is(mapFlags(f, 8, 0, 0, 2), Gntst.bad_domain);
  t.is(f.flags(8), PERMIT);
  t.is(f.table.stats().handles, 0);
});

test('E03: refs beyond the table are bad_gntref, and nothing outside is read', (t) => {
  const f = fixture();
  for (const ref of [512, 513, 4 * 512, 0x7fff_ffff, -1, 0xffff_ffff]) {
    t.is(f.grants.mapOne(ref, false, 0, nobody), Gntst.bad_gntref, `ref ${ref}`);
  }
  f.grant(511, LOW_GFN);
  t.true(f.grants.mapOne(511, false, 0, nobody) >= 0);
  t.true(f.table.growTo(2));
  f.grant(512, LOW_GFN);
  t.true(f.grants.mapOne(512, false, 0, nobody) >= 0);
  t.is(f.grants.mapOne(1024, false, 0, nobody), Gntst.bad_gntref);
});

test('E04: an entry that is not ours to map is general_error and keeps its bits', (t) => {
  const f = fixture();
  for (const [flags, domid] of [
    [0, 0],
    [2, 0],
    [3, 0],
    [PERMIT, 1],
    [PERMIT, 0x7ff0],
    [PERMIT | 256, 0],
  ] as const) {
    f.grant(8, LOW_GFN, flags, domid);
    t.is(f.grants.mapOne(8, false, 0, nobody), Gntst.general_error, `flags ${flags} domid ${domid}`);
    t.is(f.flags(8), flags);
  }
  t.is(f.table.stats().handles, 0);
});

test('E05: a read-only grant maps read-only but not read-write', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN, PERMIT | READONLY);
  t.is(f.grants.mapOne(8, false, 0, nobody), Gntst.general_error);
  t.is(f.flags(8), PERMIT | READONLY);
  const handle = f.grants.mapOne(8, true, 0, nobody);
  t.true(handle >= 0);
  t.is(f.flags(8), PERMIT | READONLY | READING);
  t.is(f.grants.mapOne(8, false, 0, nobody), Gntst.general_error, 'nor while it is mapped read-only');
  t.is(f.grants.unmapOne(handle), Gntst.okay);
  t.is(f.flags(8), PERMIT | READONLY);
});

test('E06: 128 pins of each kind fit on a grant, the next is general_error, and unmaps make room', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  const handles = { rw: [] as number[], ro: [] as number[] };
  for (const kind of ['rw', 'ro'] as const) {
    for (let i = 0; i < 128; i++) handles[kind].push(f.grants.mapOne(8, kind === 'ro', 0, nobody));
    t.true(handles[kind].every((handle) => handle >= 0));
    t.is(f.grants.mapOne(8, kind === 'ro', 0, nobody), Gntst.general_error);
  }
  t.deepEqual(f.table.active.pins(8), { ro: 128, rw: 128 });
  t.is(f.grants.unmapOne(handles.rw.pop()!), Gntst.okay);
  const again = f.grants.mapOne(8, false, 0, nobody);
  t.true(again >= 0);
  for (const handle of [...handles.rw, again, ...handles.ro]) t.is(f.grants.unmapOne(handle), Gntst.okay);
  t.is(f.flags(8), PERMIT);
  t.is(f.table.stats().pinnedRefs, 0);
});

test('E08: the page of the first map is used until the last unmap, whatever the entry says meanwhile', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN + 1);
  const first = f.grants.mapOne(8, false, 0, nobody);
  f.entries.setUint32(8 * 8 + 4, LOW_GFN + 2, true);
  let offset = -1;
  const second = f.grants.mapOne(8, true, 0, (_context, _window, at) => (offset = at));
  t.is(offset, PAGE_SIZE);
  f.grants.unmapOne(first);
  f.grants.unmapOne(second);
  const third = f.grants.mapOne(8, true, 0, (_context, _window, at) => (offset = at));
  t.is(offset, 2 * PAGE_SIZE);
  f.grants.unmapOne(third);
});

test('E09: a frame that is no RAM is bad_page and leaves no bit behind', (t) => {
  const f = fixture();
  for (const gfn of [0, LOW_GFN - 1, LOW_GFN + 64, 0xf_0000, 0xffff_ffff]) {
    f.grant(8, gfn);
    t.is(f.grants.mapOne(8, false, 0, nobody), Gntst.bad_page, `gfn ${gfn}`);
    t.is(f.flags(8), PERMIT);
  }
  t.is(f.table.stats().pinnedRefs, 0);
});

test('E113: a grant of a device BAR is bad_page', (t) => {
  const f = fixture();
  f.grant(8, 0xf_e000);
  t.is(f.grants.mapOne(8, false, 0, nobody), Gntst.bad_page);
});

test('E13: an unmapped, a never issued and an invalid handle are bad_handle and change no bit', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  const handle = f.grants.mapOne(8, false, 0, nobody);
  for (const bad of [-1, handle + 1, 0x7fff_ffff, 1 << 17, -2147483648]) t.is(f.grants.unmapOne(bad), Gntst.bad_handle);
  t.is(f.flags(8), PERMIT | READING | WRITING);
  t.is(f.grants.unmapOne(handle), Gntst.okay);
  t.is(f.grants.unmapOne(handle), Gntst.bad_handle);
  const next = f.grants.mapOne(8, false, 0, nobody);
  t.not(next, handle, 'a handle is not given out again at once');
  t.is(f.grants.unmapOne(handle), Gntst.bad_handle);
  t.is(f.flags(8), PERMIT | READING | WRITING);
  t.is(f.grants.unmapOne(next), Gntst.okay);
});

test('E96: a failed op gets no callback and its context is untouched; the rest get theirs in index order', (t) => {
  const f = fixture();
  const batch = new MapBatch(8);
  for (let i = 0; i < 8; i++) {
    if (i !== 3) f.grant(8 + i, LOW_GFN + i);
    batch.add(8 + i, false, 100 + i);
  }
  const seen: number[] = [];
  t.is(f.grants.map(batch, (context) => seen.push(context)), 1);
  t.deepEqual(seen, [100, 101, 102, 104, 105, 106, 107]);
  t.is(batch.status[3], Gntst.general_error);
  t.is(batch.handle[3], -1);
  t.is(batch.context[3], 103);
  t.is(f.grants.unmap(batch), 1, 'only the one that was not mapped');
  t.is(batch.status[3], Gntst.bad_handle);
  t.deepEqual([...batch.handle], new Array(8).fill(-1));
  t.is(f.table.stats().pinnedRefs, 0);
});

test('E97: a frame above 4 GiB is found in its own window', (t) => {
  const f = fixture();
  f.grant(8, HIGH_GFN + 2);
  let found: [number, number] | undefined;
  const handle = f.grants.mapOne(8, false, 0, (_context, window, offset) => (found = [window.gfn, offset]));
  t.true(handle >= 0);
  t.deepEqual(found, [HIGH_GFN, 2 * PAGE_SIZE]);
});

test('E98: writing goes with the last writer, reading with the last pin', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  const reader = f.grants.mapOne(8, true, 0, nobody);
  t.is(f.flags(8), PERMIT | READING);
  const writers = [f.grants.mapOne(8, false, 0, nobody), f.grants.mapOne(8, false, 0, nobody)];
  t.is(f.flags(8), PERMIT | READING | WRITING);
  f.grants.unmapOne(writers[0]!);
  t.is(f.flags(8), PERMIT | READING | WRITING);
  f.grants.unmapOne(writers[1]!);
  t.is(f.flags(8), PERMIT | READING);
  f.grants.unmapOne(reader);
  t.is(f.flags(8), PERMIT);
});

test('a page of our own is mapped at the frame it is shown at, and nowhere else', (t) => {
  const f = fixture();
  f.grant(1, 0xfefff);
  t.is(f.grants.mapOne(1, false, 0, nobody), Gntst.bad_page);
  f.table.showOwnPage(1, 0xfefff);
  let found = -1;
  const handle = f.grants.mapOne(1, false, 0, (_context, window, offset) => {
    t.is(window, f.table.frames.own);
    found = offset;
  });
  t.is(found, PAGE_SIZE);
  f.grants.unmapOne(handle);
  f.table.showOwnPage(1, undefined);
  t.is(f.grants.mapOne(1, false, 0, nobody), Gntst.bad_page);
});

test('handles run out with no_space, and unmapping makes room', (t) => {
  const f = fixture({ maxMaptrackFrames: 1 });
  for (let i = 0; i < 3; i++) f.grant(8 + i, LOW_GFN);
  const handles: number[] = [];
  for (let i = 0; i < 256; i++) handles.push(f.grants.mapOne(8 + (i >> 7), false, 0, nobody));
  t.true(handles.every((handle) => handle >= 0));
  t.is(new Set(handles).size, 256);
  t.is(f.grants.mapOne(10, false, 0, nobody), Gntst.no_space);
  t.is(f.grants.mapOne(9999, false, 0, nobody), Gntst.no_space, 'which comes before the check of the ref');
  t.is(f.grants.unmapOne(handles.pop()!), Gntst.okay);
  t.true(f.grants.mapOne(10, false, 0, nobody) >= 0);
});
