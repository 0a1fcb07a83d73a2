/** GNTTABOP_swap_grant_ref: exchanges the contents of two entries that nobody has pinned. */
import { GnttabSwapGrantRef, Gntst } from '../../abi/grant-table.js';
import type { GrantTable } from '../table.js';
import type { GrantCaller } from './caller.js';

export function swapGrantRef(caller: GrantCaller, view: DataView, at: number): number {
  const a = view.getUint32(at + GnttabSwapGrantRef.ref_a, true);
  const b = view.getUint32(at + GnttabSwapGrantRef.ref_b, true);
  view.setInt16(at + GnttabSwapGrantRef.status, swapStatus(caller.table, a, b), true);
  return 0;
}

function swapStatus(table: GrantTable, a: number, b: number): number {
  const { nrRefs } = table.state;
  if (a >= nrRefs || b >= nrRefs) return Gntst.bad_gntref;
  if (a === b) return Gntst.okay;
  return table.exclusive(() => {
    const free = !table.active.isPinned(a) && !table.active.isPinned(b);
    if (free) table.frames.swapEntries(a, b);
    return free ? Gntst.okay : Gntst.eagain;
  });
}
