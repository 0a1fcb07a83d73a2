/**
 * What the shim does for a backend's grant operation (spec A3.6, A3.7): no host mapping is made, since the backend
 * sees all guest memory; a map checks and pins the grant. Only here do flags without GNTMAP_host_map mean that.
 */
import { Gntmap, Gntst } from '../abi/grant-table.js';
import type { GrantTable } from './table.js';

/**
 * Within a batch: one map op; returns a handle >= 0 or a negative GNTST_*.
 * @param hostAddr must be 0: there is nothing to map at
 * @param flags 0 or GNTMAP_readonly
 */
export function shimHcallGntmap(
  table: GrantTable,
  hostAddr: number,
  flags: number,
  ref: number,
  domid: number,
): number {
  if (hostAddr !== 0) return Gntst.bad_virt_addr;
  if ((flags & ~Gntmap.readonly) !== 0) return Gntst.bad_gntref;
  if (domid !== table.domid) return Gntst.bad_domain;
  return table.map(ref, flags !== 0);
}

/** Within a batch: one unmap op; returns a GNTST_*. */
export function shimHcallGntunmap(table: GrantTable, handle: number): number {
  return table.unmap(handle);
}
