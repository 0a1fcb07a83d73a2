/**
 * GNTTABOP_map_grant_ref and GNTTABOP_unmap_grant_ref as a guest issues them. The backends' domain grants nothing, so
 * all a guest could map is a grant to itself, whose second place in its physical memory nothing here can provide: that
 * ends as a failed host mapping does in Xen. Hence a guest never holds a handle.
 */
import { Gntmap, GnttabMapGrantRef, GnttabUnmapGrantRef, Gntst } from '../../abi/grant-table.js';
import type { GrantTable } from '../table.js';
import type { GrantCaller } from './caller.js';

const NOT_FOR_HVM = Gntmap.device_map | Gntmap.application_map | Gntmap.contains_pte;

export function mapGrantRef(caller: GrantCaller, view: DataView, at: number): number {
  const { table } = caller;
  const flags = view.getUint32(at + GnttabMapGrantRef.flags, true);
  const ref = view.getUint32(at + GnttabMapGrantRef.ref, true);
  const dom = view.getUint16(at + GnttabMapGrantRef.dom, true);
  view.setInt16(at + GnttabMapGrantRef.status, mapStatus(table, flags, ref, dom), true);
  return 0;
}

function mapStatus(table: GrantTable, flags: number, ref: number, dom: number): number {
  if ((flags & (Gntmap.host_map | Gntmap.device_map)) === 0) return Gntst.bad_gntref;
  if ((flags & NOT_FOR_HVM) !== 0) return Gntst.general_error;
  // DOMID_SELF is no domain here: Xen looks the id up as it stands.
  if (dom !== table.domid) return dom === 0 ? Gntst.bad_gntref : Gntst.bad_domain;
  const readonly = (flags & Gntmap.readonly) !== 0;
  table.enter();
  try {
    const status = table.pin(ref, table.domid, readonly, true);
    if (status !== Gntst.okay) return status;
    table.unpin(ref, readonly);
    return Gntst.general_error;
  } finally {
    table.leave();
  }
}

export function unmapGrantRef(_caller: GrantCaller, view: DataView, at: number): number {
  view.setInt16(at + GnttabUnmapGrantRef.status, Gntst.bad_handle, true);
  return 0;
}
