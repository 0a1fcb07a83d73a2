import test from 'ava';
import { Gntst } from '../../../shim/abi/grant-table.js';
import { createGrantState } from '../../../shim/grant-table/state.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { fixture, HIGH_GFN, LOW_GFN, PERMIT, READING, READONLY, WRITING } from './fixture.js';

const nobody = (): void => {};

test('a table begins with one frame, grows up to its maximum, and new frames are empty', (t) => {
  const f = fixture();
  t.is(f.table.nrFrames, 1);
  f.entries.setUint32(512 * 8, 0xffff_ffff, true);
  t.true(f.table.growTo(3));
  t.is(f.table.nrFrames, 3);
  t.is(f.entries.getUint32(512 * 8, true), 0);
  t.true(f.table.growTo(2), 'a smaller number changes nothing');
  t.is(f.table.nrFrames, 3);
  t.false(f.table.growTo(5));
  t.false(f.table.growTo(-1));
  t.false(f.table.growTo(NaN));
  t.is(f.table.nrFrames, 3);
});

test('a frame the guest places inside its RAM works from there, and goes home with its contents', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN + 3);
  const before = f.grants.mapOne(8, true, 0, nobody);
  t.true(f.table.placeFrame(0, { gfn: HIGH_GFN + 1 }));
  const { view } = f.memory.windows[1]!;
  const at = PAGE_SIZE + 8 * 8;
  t.is(view.getUint16(at, true), PERMIT | READING);
  const handle = f.grants.mapOne(8, false, 0, nobody);
  t.is(view.getUint16(at, true), PERMIT | READING | WRITING);
  view.setUint16(PAGE_SIZE + 9 * 8, PERMIT | READONLY, true);
  view.setUint32(PAGE_SIZE + 9 * 8 + 4, LOW_GFN, true);
  t.true(f.grants.mapOne(9, true, 0, nobody) >= 0);
  t.is(f.table.gfnOfFrame(0), HIGH_GFN + 1);
  t.true(f.table.placeFrame(0, 'home'));
  t.is(f.flags(9), PERMIT | READONLY | READING);
  f.grants.unmapOne(handle);
  f.grants.unmapOne(before);
  t.is(f.flags(8), PERMIT);
  t.is(f.table.gfnOfFrame(0), -1);
  f.table.showOwnPage(2, 0xf_2000);
  t.is(f.table.gfnOfFrame(0), 0xf_2000);
});

test('a frame is not placed where there is no RAM, nor one that does not exist', (t) => {
  const f = fixture();
  t.false(f.table.placeFrame(0, { gfn: 1 }));
  t.false(f.table.placeFrame(1, { gfn: LOW_GFN }));
  t.false(f.table.placeFrame(-1, 'home'));
  t.deepEqual(f.table.placeOf(0), { own: 2 });
});

test('a reserved entry permits the backends its frame', (t) => {
  const f = fixture();
  f.table.seedEntry(1, 0, LOW_GFN + 7);
  let offset = -1;
  const handle = f.grants.mapOne(1, false, 0, (_context, _window, at) => (offset = at));
  t.true(handle >= 0);
  t.is(offset, 7 * PAGE_SIZE);
});

test('teardown drops the status bits of all pins; later maps are bad_domain, unmaps okay and only forget', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  f.grant(9, LOW_GFN);
  const handles = [f.grants.mapOne(8, false, 0, nobody), f.grants.mapOne(9, true, 0, nobody)];
  f.table.teardown();
  t.is(f.flags(8), PERMIT);
  t.is(f.flags(9), PERMIT);
  t.is(f.table.stats().pinnedRefs, 2, 'the pins stay until they are released');
  t.is(f.grants.mapOne(8, false, 0, nobody), Gntst.bad_domain);
  t.is(f.grants.copyFrom(8, 0, new Uint8Array(4), 0, 4), Gntst.bad_domain);
  f.entries.setUint16(8 * 8, READING | WRITING, true);
  for (const handle of handles) t.is(f.grants.unmapOne(handle), Gntst.okay);
  t.is(f.flags(8), READING | WRITING, 'an entry of a domain that is gone is nobody’s to change');
  t.is(f.table.stats().pinnedRefs, 0);
  f.table.teardown();
});

test('a reset gives a fresh table whose old handles are stale', (t) => {
  const f = fixture();
  f.table.growTo(3);
  f.grant(8, LOW_GFN);
  f.table.placeFrame(0, { gfn: LOW_GFN + 9 });
  const handle = f.grants.mapOne(8, false, 0, nobody);
  f.table.teardown();
  f.table.reset();
  t.deepEqual(f.table.stats(), { frames: 1, pinnedRefs: 0, readonlyPins: 0, readwritePins: 0, handles: 0 });
  t.is(f.grants.unmapOne(handle), Gntst.bad_handle);
  t.is(f.flags(8), 0);
  t.deepEqual(f.table.placeOf(0), { own: 2 });
  f.grant(8, LOW_GFN);
  t.true(f.grants.mapOne(8, false, 0, nobody) >= 0);
});

test('a state that does not fit its own pages is refused', (t) => {
  t.throws(() => createGrantState({ maxFrames: 64, ownPages: 64, firstOwnPage: 1 }), { instanceOf: RangeError });
});

test('a backend copies from and to a granted page, pinning it only meanwhile', (t) => {
  const f = fixture();
  f.grant(8, HIGH_GFN + 1);
  const bytes = Uint8Array.of(0, 1, 2, 3, 4, 5);
  t.is(f.grants.copyTo(8, 4090, bytes, 1, 5), Gntst.okay);
  t.deepEqual([...f.memory.windows[1]!.u8.subarray(PAGE_SIZE + 4089, PAGE_SIZE + 4096)], [0, 1, 2, 3, 4, 5, 0]);
  const into = new Uint8Array(4);
  t.is(f.grants.copyFrom(8, 4092, into, 1, 3), Gntst.okay);
  t.deepEqual([...into], [0, 3, 4, 5]);
  t.is(f.flags(8), PERMIT);
  t.is(f.table.stats().pinnedRefs, 0);
});

test('E15 E16 E17: a backend’s copy checks length, then the ref, then the range', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN);
  const bytes = new Uint8Array(0x2_0000);
  t.is(f.grants.copyTo(9999, 0xffff, bytes, 0, 0), Gntst.okay);
  t.is(f.grants.copyTo(9999, 4000, bytes, 0, 200), Gntst.bad_gntref);
  t.is(f.grants.copyTo(8, 4000, bytes, 0, 200), Gntst.bad_copy_arg);
  t.is(f.grants.copyFrom(8, 0xffff, bytes, 0, 0xffff), Gntst.bad_copy_arg);
  t.is(f.grants.copyFrom(8, -1, bytes, 0, 1), Gntst.bad_copy_arg);
  t.is(f.flags(8), PERMIT);
});

test('E18: a backend’s copy into a read-only grant is general_error and writes nothing', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN, PERMIT | READONLY);
  t.is(f.grants.copyTo(8, 0, Uint8Array.of(1), 0, 1), Gntst.general_error);
  t.is(f.memory.windows[0]!.u8[0], 0);
  t.is(f.grants.copyFrom(8, 0, new Uint8Array(1), 0, 1), Gntst.okay);
});

test('E23 E25 E110: a pinned frame counts as such until its last unmap, whatever the guest gives back', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN + 5);
  f.grant(9, LOW_GFN + 5);
  const seen: number[] = [];
  const first = f.grants.mapOne(8, false, 0, (_context, window, offset) => seen.push(window.hva + offset));
  // The guest balloons the page out: it can be granted no more, but who has it keeps it.
  f.table.frames.residency = {
    idle: false,
    pin: (gfn) => (gfn === LOW_GFN + 5 ? Gntst.bad_page : Gntst.okay),
    unpin: () => {},
    wrote: () => {},
  };
  t.is(f.grants.mapOne(9, false, 0, nobody), Gntst.bad_page);
  const second = f.grants.mapOne(8, true, 0, (_context, window, offset) => seen.push(window.hva + offset));
  t.is(seen.length, 2);
  t.is(seen[0], seen[1]);
  t.deepEqual([...f.table.pinnedFrames()], [LOW_GFN + 5]);
  f.grants.unmapOne(first);
  t.deepEqual([...f.table.pinnedFrames()], [LOW_GFN + 5]);
  f.grants.unmapOne(second);
  t.is(f.table.pinnedFrames().size, 0);
});

test('E22: an entry rewritten to another frame while pinned leaves I/O on the old page', (t) => {
  const f = fixture();
  f.grant(8, LOW_GFN + 5);
  const handle = f.grants.mapOne(8, false, 0, nobody);
  f.entries.setUint32(8 * 8 + 4, LOW_GFN + 6, true);
  t.deepEqual([...f.table.pinnedFrames()], [LOW_GFN + 5]);
  t.is(f.grants.copyTo(8, 0, Uint8Array.of(9), 0, 1), Gntst.okay);
  t.is(f.memory.windows[0]!.u8[5 * PAGE_SIZE], 9);
  f.grants.unmapOne(handle);
  t.is(f.grants.copyTo(8, 0, Uint8Array.of(8), 0, 1), Gntst.okay);
  t.is(f.memory.windows[0]!.u8[6 * PAGE_SIZE], 8);
});
