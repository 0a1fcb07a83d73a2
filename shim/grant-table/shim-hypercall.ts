/**
 * The backends' side of GNTTABOP_map_grant_ref and GNTTABOP_unmap_grant_ref: grantTableOp is what a backend in a dom0
 * kernel would call HYPERVISOR_grant_table_op; shimHypercall answers it in this process instead of a hypervisor.
 */
import { Errno } from '../abi/errno.js';
import { Gntmap, Gnttabop } from '../abi/grant-table.js';
import { INVALID_GRANT_HANDLE, type MapBatch } from './foreign.js';
import { shimHcallGntmap, shimHcallGntunmap } from './shim-gntmap.js';
import type { GrantTable } from './table.js';

/** GNTTAB_host_map of spec A3.2: what asks Xen for a host mapping asks the shim for none. */
const GNTTAB_HOST_MAP = 0;

/** Runs ops `from` … `from + count - 1` of the batch; results are written into it. Returns 0 or a negative errno. */
export function grantTableOp(table: GrantTable, cmd: number, ops: MapBatch, from: number, count: number): number {
  table.enter();
  try {
    return shimHypercall(table, cmd, ops, from, count);
  } finally {
    table.leave();
  }
}

export function shimHypercall(table: GrantTable, cmd: number, ops: MapBatch, from: number, count: number): number {
  const { status, handle } = ops;
  const end = from + count;
  if (cmd === Gnttabop.map_grant_ref) {
    const { ref, readonly, window, offset } = ops;
    const { domid } = table;
    for (let i = from; i < end; i++) {
      const flags = readonly[i] !== 0 ? GNTTAB_HOST_MAP | Gntmap.readonly : GNTTAB_HOST_MAP;
      const result = shimHcallGntmap(table, 0, flags, ref[i]!, domid);
      if (result >= 0) {
        handle[i] = result;
        status[i] = 0;
        window[i] = table.mappedWindow;
        offset[i] = table.mappedOffset;
      } else {
        status[i] = result;
      }
    }
    return 0;
  }
  if (cmd === Gnttabop.unmap_grant_ref) {
    for (let i = from; i < end; i++) {
      status[i] = shimHcallGntunmap(table, handle[i]!);
      handle[i] = INVALID_GRANT_HANDLE;
    }
    return 0;
  }
  return -Errno.ENOSYS;
}
