/** GNTTABOP_copy as a guest issues it: between its own frames, and grants it may use. */
import { GnttabCopy32, GnttabCopy64, Gntcopy, Gntst } from '../../abi/grant-table.js';
import { Domid } from '../../abi/xen.js';
import { PAGE_SIZE } from '../../memory/guest-memory.js';
import type { GrantTable } from '../table.js';
import { whichDomain, type GrantCaller, type PageBytes } from './caller.js';

/** One side of a copy: a grant reference, or a frame of the caller. */
interface Side {
  readonly gref: boolean;
  readonly frame: number;
  readonly domid: number;
  readonly offset: number;
}

export function copyGrant(caller: GrantCaller, view: DataView, at: number, wide: boolean): number {
  const layout = wide ? GnttabCopy64 : GnttabCopy32;
  const flags = view.getUint16(at + layout.flags, true);
  const side = (ptr: number, gref: boolean, domid: number, offset: number): Side => ({
    gref,
    frame: wide && !gref ? Number(view.getBigUint64(at + ptr, true)) : view.getUint32(at + ptr, true),
    domid: view.getUint16(at + domid, true),
    offset: view.getUint16(at + offset, true),
  });
  const source = side(layout.source, (flags & Gntcopy.source_gref) !== 0, layout.source_domid, layout.source_offset);
  const dest = side(layout.dest, (flags & Gntcopy.dest_gref) !== 0, layout.dest_domid, layout.dest_offset);
  const length = view.getUint16(at + layout.len, true);
  view.setInt16(at + layout.status, copyStatus(caller, source, dest, length), true);
  return 0;
}

function copyStatus(caller: GrantCaller, source: Side, dest: Side, length: number): number {
  if (length === 0) return Gntst.okay;
  const refused = sideRefused(caller, source) || sideRefused(caller, dest);
  if (refused !== Gntst.okay) return refused;
  const { table } = caller;
  table.enter();
  try {
    return withSide(caller, source, true, (from) =>
      withSide(caller, dest, false, (to) => {
        // Sums of two 16-bit numbers in a double: nothing wraps (E17).
        if (source.offset + length > PAGE_SIZE || dest.offset + length > PAGE_SIZE) return Gntst.bad_copy_arg;
        if (!covered(table, source, length) || !covered(table, dest, length)) return Gntst.general_error;
        const start = from.offset + source.offset;
        to.u8.set(from.u8.subarray(start, start + length), to.offset + dest.offset);
        return Gntst.okay;
      }),
    );
  } finally {
    table.leave();
  }
}

/** The copy stays in what a sub-page grant gives. The side is pinned. */
function covered(table: GrantTable, side: Side, length: number): boolean {
  return !side.gref || table.active.covers(side.frame, side.offset, length);
}

/** Which domain a side may name: a frame only DOMID_SELF, a grant any domain there is. */
function sideRefused(caller: GrantCaller, side: Side): number {
  if (!side.gref) return side.domid === Domid.SELF ? Gntst.okay : Gntst.permission_denied;
  return whichDomain(caller.table, side.domid) === 'unknown' ? Gntst.bad_domain : Gntst.okay;
}

/** Runs `use` with the page of a side, pinned while it runs if it is a grant. */
function withSide(caller: GrantCaller, side: Side, readonly: boolean, use: (page: PageBytes) => number): number {
  const { table } = caller;
  if (!side.gref) {
    const page = caller.locateFrame(side.frame);
    if (page === undefined) return Gntst.bad_page;
    const status = table.frames.pin(side.frame);
    if (status !== Gntst.okay) return status;
    const result = use(page);
    table.frames.unpin(side.frame);
    return result;
  }
  // The backends' domain grants nothing: each of its references is out of range.
  if (whichDomain(table, side.domid) !== 'self') return Gntst.bad_gntref;
  const status = table.pin(side.frame, table.domid, readonly, false);
  if (status !== Gntst.okay) return status;
  const page = caller.locateFrame(table.active.frame(side.frame));
  const result = page === undefined ? Gntst.bad_page : use(page);
  table.unpin(side.frame, readonly);
  return result;
}
