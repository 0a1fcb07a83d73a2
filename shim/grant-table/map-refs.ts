/** gnttab_map_refs and gnttab_unmap_refs of a backend: a batch, the immediate retry, the page-changed callbacks. */
import { Gntst, Gnttabop } from '../abi/grant-table.js';
import type { MapBatch, PageChanged } from './foreign.js';
import { grantTableOp } from './shim-hypercall.js';
import type { GrantTable } from './table.js';

/**
 * Maps `mapOps[0..count)`, then `kmapOps` (a second pin of the same grants, for a consumer of its own) where given.
 * Ops that got GNTST_eagain are issued once more at once. If some still have it, no callback has run and `retryEagain`
 * (retry.ts) has to settle the batch; otherwise the callbacks have run.
 * @returns how many of `mapOps` did not succeed
 */
export function gnttabMapRefs(
  table: GrantTable,
  mapOps: MapBatch,
  kmapOps: MapBatch | null,
  pageChanged: PageChanged | null,
  count: number,
): number {
  grantTableOp(table, Gnttabop.map_grant_ref, mapOps, 0, count);
  if (kmapOps !== null) grantTableOp(table, Gnttabop.map_grant_ref, kmapOps, 0, count);
  let failed = 0;
  let again = 0;
  const { status } = mapOps;
  for (let i = 0; i < count; i++) {
    if (status[i] === 0) continue;
    failed++;
    if (status[i] !== Gntst.eagain) continue;
    grantTableOp(table, Gnttabop.map_grant_ref, mapOps, i, 1);
    if (status[i] === Gntst.eagain) again++;
    else if (status[i] === 0) failed--;
  }
  if (again === 0 && pageChanged !== null) handOverPages(mapOps, pageChanged, count);
  return failed;
}

/** Hands the page of every mapped op to the callback, in index order (spec A3.3). */
export function handOverPages(mapOps: MapBatch, pageChanged: PageChanged, count: number): void {
  const { status, context, window, offset } = mapOps;
  for (let i = 0; i < count; i++) {
    if (status[i] === 0) pageChanged(context[i]!, window[i]!, offset[i]!);
  }
}

/** Unmaps the handles of `ops[0..count)`; returns how many were not valid. */
export function gnttabUnmapRefs(table: GrantTable, ops: MapBatch, count: number): number {
  grantTableOp(table, Gnttabop.unmap_grant_ref, ops, 0, count);
  let failed = 0;
  for (let i = 0; i < count; i++) if (ops.status[i] !== 0) failed++;
  return failed;
}
