import test from 'ava';
import {
  GnttabCopy32,
  GnttabCopy64,
  GnttabGetVersion,
  GnttabMapGrantRef,
  Gnttabop,
  GnttabQuerySize,
  GnttabSetupTable32,
  GnttabSetupTable64,
  GnttabSwapGrantRef,
  GnttabUnmapGrantRef,
  Gntst,
} from '../../../shim/abi/grant-table.js';
import { Domid } from '../../../shim/abi/xen.js';
import type { GrantCaller } from '../../../shim/grant-table/guest-ops/caller.js';
import { GrantTableOps, runGrantTableCall } from '../../../shim/grant-table/guest-ops/index.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { DOMID, fixture, LOW_GFN, PERMIT, READING, READONLY, WRITING, type Fixture } from './fixture.js';

const SELF = Domid.SELF;
const HOST_MAP = 2;

/** A guest whose virtual addresses 0 … 64 KiB are a buffer of their own. */
interface Guest extends Fixture {
  readonly caller: GrantCaller;
  readonly args: DataView;
  call(cmd: number, count?: number, options?: { va?: bigint; wide?: boolean }): number | undefined;
}

function guest(): Guest {
  const f = fixture();
  const args = new DataView(new ArrayBuffer(65536));
  const bytes = new Uint8Array(args.buffer);
  const inside = (va: bigint, length: number): boolean => va >= 0n && va + BigInt(length) <= 65536n;
  const caller: GrantCaller = {
    table: f.table,
    locateFrame(gfn) {
      const window = f.memory.window(gfn);
      return window && { u8: window.u8, offset: (gfn - window.gfn) * PAGE_SIZE };
    },
    dropStatusFrames: () => {},
    copyIn(va, into) {
      if (!inside(va, into.length)) return false;
      into.set(bytes.subarray(Number(va), Number(va) + into.length));
      return true;
    },
    copyOut(va, from) {
      if (!inside(va, from.length)) return false;
      bytes.set(from, Number(va));
      return true;
    },
  };
  return {
    ...f,
    caller,
    args,
    call: (cmd, count = 1, { va = 0n, wide = true } = {}) =>
      runGrantTableCall(caller, { cmd, va, count, wide, next: 0 }),
  };
}

function map(g: Guest, flags: number, ref: number, dom: number): number {
  g.args.setUint32(GnttabMapGrantRef.flags, flags, true);
  g.args.setUint32(GnttabMapGrantRef.ref, ref, true);
  g.args.setUint16(GnttabMapGrantRef.dom, dom, true);
  g.args.setInt32(GnttabMapGrantRef.handle, -1, true);
  g.args.setInt16(GnttabMapGrantRef.status, 99, true);
  if (g.call(Gnttabop.map_grant_ref) !== 0) return NaN;
  if (g.args.getInt32(GnttabMapGrantRef.handle, true) !== -1) return NaN;
  return g.args.getInt16(GnttabMapGrantRef.status, true);
}

interface CopySide {
  gref?: number;
  gmfn?: bigint;
  domid?: number;
  offset?: number;
}

function copy(g: Guest, source: CopySide, dest: CopySide, length: number, wide = true): number {
  const layout = wide ? GnttabCopy64 : GnttabCopy32;
  const put = (side: CopySide, ref: number, domid: number, offset: number): void => {
    if (wide) g.args.setBigUint64(ref, side.gmfn ?? BigInt(side.gref ?? 0), true);
    else g.args.setUint32(ref, Number(side.gmfn ?? side.gref ?? 0), true);
    g.args.setUint16(domid, side.domid ?? SELF, true);
    g.args.setUint16(offset, side.offset ?? 0, true);
  };
  put(source, layout.source_ref, layout.source_domid, layout.source_offset);
  put(dest, layout.dest_ref, layout.dest_domid, layout.dest_offset);
  g.args.setUint16(layout.len, length, true);
  g.args.setUint16(layout.flags, (source.gref === undefined ? 0 : 1) | (dest.gref === undefined ? 0 : 2), true);
  g.args.setInt16(layout.status, 99, true);
  if (g.call(Gnttabop.copy, 1, { wide }) !== 0) return NaN;
  return g.args.getInt16(layout.status, true);
}

const page = (g: Guest, gfn: number): Uint8Array => {
  const at = (gfn - LOW_GFN) * PAGE_SIZE;
  return g.memory.windows[0]!.u8.subarray(at, at + PAGE_SIZE);
};

test('E01: a guest that asks for neither a host nor a device map gets bad_gntref', (t) => {
  const g = guest();
  g.grant(8, LOW_GFN, PERMIT, DOMID);
  t.is(map(g, 0, 8, DOMID), Gntst.bad_gntref);
  t.is(map(g, 4, 8, DOMID), Gntst.bad_gntref);
  t.is(g.flags(8), PERMIT);
});

test('a guest that asks for a device map, application map or PTE update gets general_error', (t) => {
  const g = guest();
  for (const flags of [1, 3, HOST_MAP | 8, HOST_MAP | 16]) t.is(map(g, flags, 9999, 77), Gntst.general_error);
});

test('E02: a map from DOMID_SELF or a domain that does not exist is bad_domain', (t) => {
  const g = guest();
  for (const dom of [SELF, 2, 0x7ff1, 0x7ff4, 0xffff]) t.is(map(g, HOST_MAP, 8, dom), Gntst.bad_domain, `${dom}`);
});

test('E03: a guest map of a ref outside the table is bad_gntref', (t) => {
  const g = guest();
  for (const ref of [512, 0x7fff_ffff, 0xffff_ffff]) t.is(map(g, HOST_MAP, ref, DOMID), Gntst.bad_gntref);
  t.is(map(g, HOST_MAP, 0, 0), Gntst.bad_gntref, 'the backends grant nothing');
});

test('a guest map of its own grant passes every check and then fails as a host mapping that cannot be made', (t) => {
  const g = guest();
  g.grant(8, LOW_GFN, PERMIT, DOMID);
  t.is(map(g, HOST_MAP, 8, DOMID), Gntst.general_error);
  g.grant(8, 1, PERMIT, DOMID);
  t.is(map(g, HOST_MAP, 8, DOMID), Gntst.bad_page);
  t.is(g.flags(8), PERMIT);
  t.is(g.table.stats().pinnedRefs, 0);
});

test("E13: a guest's unmap of any handle, a backend's included, is bad_handle and changes no bit", (t) => {
  const g = guest();
  g.grant(8, LOW_GFN);
  const handle = g.grants.mapOne(8, false, 0, () => {});
  for (const bad of [handle, 0xffff_ffff, 5]) {
    g.args.setUint32(GnttabUnmapGrantRef.handle, bad, true);
    t.is(g.call(Gnttabop.unmap_grant_ref), 0);
    t.is(g.args.getInt16(GnttabUnmapGrantRef.status, true), Gntst.bad_handle);
  }
  t.is(g.flags(8), PERMIT | READING | WRITING);
});

test('E15: a copy of no bytes is okay whatever else it says', (t) => {
  const g = guest();
  t.is(copy(g, { gref: 0xffff_ffff, domid: 99, offset: 0xffff }, { gmfn: 2n ** 40n, domid: 3 }, 0), Gntst.okay);
});

test('E16: a copy across the end of a page is bad_copy_arg, but a bad ref is reported first', (t) => {
  const g = guest();
  g.grant(8, LOW_GFN, PERMIT, DOMID);
  const dest = { gmfn: BigInt(LOW_GFN + 1) };
  t.is(copy(g, { gref: 999, offset: 4000 }, dest, 200), Gntst.bad_gntref);
  t.is(copy(g, { gref: 8, offset: 4000 }, dest, 200), Gntst.bad_copy_arg);
  t.is(copy(g, { gmfn: BigInt(LOW_GFN) }, { ...dest, offset: 4000 }, 97), Gntst.bad_copy_arg);
  t.is(copy(g, { gref: 8, offset: 4000 }, dest, 96), Gntst.okay);
  t.is(g.flags(8), PERMIT);
});

test('E17: offset and length of a copy are not summed in 16 bits', (t) => {
  const g = guest();
  g.grant(8, LOW_GFN, PERMIT, DOMID);
  const dest = { gmfn: BigInt(LOW_GFN + 1) };
  t.is(copy(g, { gref: 8, offset: 0xffff }, dest, 0xffff), Gntst.bad_copy_arg);
  t.is(copy(g, { gref: 8, offset: 0xffff }, dest, 1), Gntst.bad_copy_arg);
  t.is(copy(g, { gref: 8 }, { ...dest, offset: 0xf000 }, 0x1000), Gntst.bad_copy_arg);
});

test('E18: a copy into a read-only grant is general_error; a frame of another domain is permission_denied', (t) => {
  const g = guest();
  g.grant(8, LOW_GFN, PERMIT | READONLY, DOMID);
  const own = { gmfn: BigInt(LOW_GFN + 1) };
  t.is(copy(g, own, { gref: 8 }, 16), Gntst.general_error);
  t.is(g.flags(8), PERMIT | READONLY);
  t.is(copy(g, { gref: 8 }, own, 16), Gntst.okay, 'while copying from it is fine');
  for (const domid of [0, DOMID, 42]) {
    t.is(copy(g, own, { ...own, domid }, 16), Gntst.permission_denied);
    t.is(copy(g, { ...own, domid }, own, 16), Gntst.permission_denied);
  }
});

test('copy moves bytes between grants and frames in both layouts, and releases what it used', (t) => {
  for (const wide of [true, false]) {
    const g = guest();
    g.grant(8, LOW_GFN, PERMIT, DOMID);
    g.grant(9, LOW_GFN + 1, PERMIT, DOMID);
    page(g, LOW_GFN).set([1, 2, 3, 4], 100);
    t.is(copy(g, { gref: 8, offset: 100 }, { gref: 9, offset: 200 }, 4, wide), Gntst.okay);
    t.deepEqual([...page(g, LOW_GFN + 1).subarray(199, 205)], [0, 1, 2, 3, 4, 0]);
    t.is(copy(g, { gmfn: BigInt(LOW_GFN) }, { gmfn: BigInt(LOW_GFN + 2) }, 4096, wide), Gntst.okay);
    t.deepEqual(page(g, LOW_GFN + 2), page(g, LOW_GFN));
    t.is(g.flags(8), PERMIT);
    t.is(g.flags(9), PERMIT);
    t.is(g.table.stats().pinnedRefs, 0);
  }
});

test('copy refuses unknown domains, grants of others, and frames that are no RAM', (t) => {
  const g = guest();
  g.grant(8, LOW_GFN, PERMIT, 0);
  g.grant(9, LOW_GFN, PERMIT, DOMID);
  const own = { gmfn: BigInt(LOW_GFN + 1) };
  t.is(copy(g, { gref: 8 }, own, 1), Gntst.general_error, 'a grant for the backends is not one for the guest');
  t.is(copy(g, { gref: 0, domid: 0 }, own, 1), Gntst.bad_gntref);
  t.is(copy(g, { gref: 9, domid: 42 }, own, 1), Gntst.bad_domain);
  t.is(copy(g, { gref: 9, domid: DOMID }, own, 1), Gntst.okay);
  t.is(copy(g, { gmfn: 3n }, own, 1), Gntst.bad_page);
  t.is(copy(g, { gref: 9 }, { gmfn: 0xff00n }, 1), Gntst.bad_page);
  t.is(g.flags(9), PERMIT, 'the side that was acquired is released');
});

test('E97: a copy from frame 2^40 is bad_page', (t) => {
  const g = guest();
  t.is(copy(g, { gmfn: 2n ** 40n }, { gmfn: BigInt(LOW_GFN) }, 8), Gntst.bad_page);
  t.is(copy(g, { gmfn: 2n ** 64n - 1n }, { gmfn: BigInt(LOW_GFN) }, 8), Gntst.bad_page);
});

test('E19: set_version 3 is -EINVAL and 2 is -ENOSYS; the version in force is written back each time', (t) => {
  const g = guest();
  for (const [asked, result] of [
    [0, -22],
    [3, -22],
    [0xffff_ffff, -22],
    [2, -38],
    [1, 0],
  ] as const) {
    g.args.setUint32(0, asked, true);
    t.is(g.call(Gnttabop.set_version), result);
    t.is(g.args.getUint32(0, true), 1);
  }
});

test('get_version answers for oneself, -ESRCH for nobody, -EPERM for the backends', (t) => {
  const g = guest();
  for (const [dom, result] of [
    [SELF, 0],
    [DOMID, 0],
    [9, -3],
    [0, -1],
  ] as const) {
    g.args.setUint16(GnttabGetVersion.dom, dom, true);
    g.args.setUint32(GnttabGetVersion.version, 0, true);
    t.is(g.call(Gnttabop.get_version), result);
    t.is(g.args.getUint32(GnttabGetVersion.version, true), result === 0 ? 1 : 0);
  }
});

test('E20: counts that make no sense are -EINVAL, commands not for HVM guests -ENOSYS', (t) => {
  const g = guest();
  for (const cmd of [Gnttabop.setup_table, Gnttabop.query_size]) {
    for (const count of [0, 2, 0xffff_ffff]) t.is(g.call(cmd, count), -22, `command ${cmd} count ${count}`);
  }
  for (const { cmd } of GrantTableOps) t.is(g.call(cmd, 0x8000_0000), -22);
  for (const cmd of [3, 4, 7, 9, 12, 13, 0x8000_0000]) t.is(g.call(cmd), -38, `command ${cmd}`);
  for (const cmd of [4, 13]) t.is(g.call(cmd, 0xffff_ffff), -38);
});

test('setup_table enlarges the table and lists the frames in the width of the caller', (t) => {
  for (const wide of [true, false]) {
    const g = guest();
    const layout = wide ? GnttabSetupTable64 : GnttabSetupTable32;
    g.table.showOwnPage(2, 0xf_2000);
    t.true(g.table.growTo(2));
    t.true(g.table.placeFrame(1, { gfn: LOW_GFN + 5 }));
    g.args.setUint16(layout.dom, SELF, true);
    g.args.setUint32(layout.nr_frames, 3, true);
    if (wide) g.args.setBigUint64(layout.frame_list, 0x100n, true);
    else g.args.setUint32(layout.frame_list, 0x100, true);
    t.is(g.call(Gnttabop.setup_table, 1, { wide }), 0);
    t.is(g.args.getInt16(layout.status, true), Gntst.okay);
    t.is(g.table.nrFrames, 3);
    const list = wide
      ? [0, 1, 2].map((i) => g.args.getBigInt64(0x100 + i * 8, true))
      : [0, 1, 2].map((i) => BigInt(g.args.getInt32(0x100 + i * 4, true)));
    t.deepEqual(list, [0xf_2000n, BigInt(LOW_GFN + 5), -1n]);
  }
});

test('setup_table refuses other domains, too many frames and a list it cannot write', (t) => {
  const g = guest();
  const setup = (dom: number, frames: number, list: bigint): number => {
    g.args.setUint16(GnttabSetupTable64.dom, dom, true);
    g.args.setUint32(GnttabSetupTable64.nr_frames, frames, true);
    g.args.setBigUint64(GnttabSetupTable64.frame_list, list, true);
    t.is(g.call(Gnttabop.setup_table), 0);
    return g.args.getInt16(GnttabSetupTable64.status, true);
  };
  t.is(setup(0, 1, 0x100n), Gntst.permission_denied);
  t.is(setup(7, 1, 0x100n), Gntst.bad_domain);
  t.is(setup(SELF, 5, 0x100n), Gntst.general_error);
  t.is(setup(SELF, 0xffff_ffff, 0x100n), Gntst.general_error);
  t.is(setup(SELF, 1, 0xffff_ffff_0000n), Gntst.bad_virt_addr);
  t.is(g.table.nrFrames, 1);
});

test('query_size reports present and maximum frames, only of oneself', (t) => {
  const g = guest();
  const query = (dom: number): number => {
    g.args.setUint16(GnttabQuerySize.dom, dom, true);
    t.is(g.call(Gnttabop.query_size), 0);
    return g.args.getInt16(GnttabQuerySize.status, true);
  };
  t.is(query(SELF), Gntst.okay);
  t.is(g.args.getUint32(GnttabQuerySize.nr_frames, true), 1);
  t.is(g.args.getUint32(GnttabQuerySize.max_nr_frames, true), 4);
  t.is(query(0), Gntst.permission_denied);
  t.is(query(9), Gntst.bad_domain);
});

test('swap exchanges free entries, leaves pinned ones, and checks both refs', (t) => {
  const g = guest();
  const swap = (a: number, b: number): number => {
    g.args.setUint32(GnttabSwapGrantRef.ref_a, a, true);
    g.args.setUint32(GnttabSwapGrantRef.ref_b, b, true);
    t.is(g.call(Gnttabop.swap_grant_ref), 0);
    return g.args.getInt16(GnttabSwapGrantRef.status, true);
  };
  g.grant(8, LOW_GFN, PERMIT, 0);
  g.grant(9, LOW_GFN + 1, PERMIT | READONLY, 0);
  t.is(swap(8, 9), Gntst.okay);
  t.is(g.flags(8), PERMIT | READONLY);
  t.is(g.flags(9), PERMIT);
  t.is(g.entries.getUint32(8 * 8 + 4, true), LOW_GFN + 1);
  t.is(swap(8, 8), Gntst.okay);
  t.is(swap(8, 512), Gntst.bad_gntref);
  t.is(swap(0xffff_ffff, 8), Gntst.bad_gntref);
  const handle = g.grants.mapOne(9, false, 0, () => {});
  t.is(swap(8, 9), Gntst.eagain);
  t.is(swap(9, 8), Gntst.eagain);
  t.is(g.entries.getUint32(8 * 8 + 4, true), LOW_GFN + 1);
  g.grants.unmapOne(handle);
  t.is(swap(8, 9), Gntst.okay);
});

test('a batch runs in slices, its results are written one by one, and a hole in it is -EFAULT', (t) => {
  const g = guest();
  const { SIZE } = GnttabSwapGrantRef;
  const call = { cmd: Gnttabop.swap_grant_ref, va: 0n, count: 600, wide: true, next: 0 };
  for (let i = 0; i < 600; i++) g.args.setInt16(i * SIZE + GnttabSwapGrantRef.status, 99, true);
  t.is(runGrantTableCall(g.caller, call), undefined);
  t.is(call.next, 256);
  t.is(g.args.getInt16(255 * SIZE + GnttabSwapGrantRef.status, true), 0);
  t.is(g.args.getInt16(256 * SIZE + GnttabSwapGrantRef.status, true), 99);
  t.is(runGrantTableCall(g.caller, call), undefined);
  t.is(runGrantTableCall(g.caller, call), 0);
  t.is(g.args.getInt16(599 * SIZE + GnttabSwapGrantRef.status, true), 0);
  t.is(g.call(Gnttabop.swap_grant_ref, 2, { va: 65536n - BigInt(SIZE) }), -14);
  t.is(g.call(Gnttabop.swap_grant_ref, 0, { va: 2n ** 63n }), 0, 'no structures, no access');
});
