/** ForeignGrants over the shim's layers: what a backend's thread holds. */
import { Gntmap, Gntst, Gnttabop } from '../abi/grant-table.js';
import { Domid } from '../abi/xen.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import type { ForeignGrants, MapBatch, PageChanged } from './foreign.js';
import { gnttabMapRefs, gnttabUnmapRefs, handOverPages } from './map-refs.js';
import { PAGE_OP_SHIFT, PageOp, type HandleBatch, type PageBatch } from './page-batch.js';
import { settle, type Patience } from './settle.js';
import { shimHcallGntmap } from './shim-gntmap.js';
import { grantTableOp } from './shim-hypercall.js';
import type { GrantTable } from './table.js';

export class BackendGrants implements ForeignGrants {
  readonly #table: GrantTable;
  readonly #patience: Patience | null;

  /** @param patience null: GNTST_eagain is the caller's to deal with */
  constructor(table: GrantTable, patience: Patience | null = null) {
    this.#table = table;
    this.#patience = patience;
  }

  begin(): void {
    this.#table.enter();
  }

  end(): void {
    this.#table.leave();
  }

  map(batch: MapBatch, pageChanged: PageChanged | null): number {
    const failed = gnttabMapRefs(this.#table, batch, null, pageChanged, batch.count);
    return failed === 0 || this.#patience === null ? failed : this.#settleMaps(batch, pageChanged, failed);
  }

  /** Ops that are still GNTST_eagain, one after the other; then the pages of all are handed over (spec A0.5, A0.7). */
  #settleMaps(batch: MapBatch, pageChanged: PageChanged | null, failed: number): number {
    const { status, count, ref } = batch;
    let left = failed;
    let settled = false;
    for (let i = 0; i < count; i++) {
      if (status[i] !== Gntst.eagain) continue;
      settled = true;
      status[i] = settle(this.#table, ref[i]!, this.#patience!, () => {
        grantTableOp(this.#table, Gnttabop.map_grant_ref, batch, i, 1);
        return status[i]!;
      });
      if (status[i] === 0) left--;
    }
    if (settled && pageChanged !== null) handOverPages(batch, pageChanged, count);
    return left;
  }

  unmap(batch: MapBatch): number {
    return gnttabUnmapRefs(this.#table, batch, batch.count);
  }

  mapPages(batch: PageBatch): number {
    const table = this.#table;
    table.enter();
    const failed = table.mapPages(batch);
    table.leave();
    return failed;
  }

  settlePages(batch: PageBatch): number {
    const { words, count } = batch;
    let failed = 0;
    for (let op = 0; op < count; op++) {
      const at = op << PAGE_OP_SHIFT;
      if (words[at + PageOp.STATUS] === Gntst.eagain) this.#settlePage(batch, op);
      if (words[at + PageOp.STATUS] !== Gntst.okay) failed++;
    }
    return failed;
  }

  #settlePage(batch: PageBatch, op: number): void {
    const { words } = batch;
    const at = op << PAGE_OP_SHIFT;
    if (this.#mapPage(batch, op) !== Gntst.eagain || this.#patience === null) return;
    const status = settle(this.#table, words[at + PageOp.REF]!, this.#patience, () => this.#mapPage(batch, op));
    words[at + PageOp.STATUS] = status;
  }

  #mapPage(batch: PageBatch, op: number): number {
    const table = this.#table;
    table.enter();
    const status = table.mapPage(batch, op);
    table.leave();
    return status;
  }

  handOverPage(batch: PageBatch, op: number, pageChanged: PageChanged): void {
    const table = this.#table;
    table.locatePage(batch, op);
    pageChanged(batch.words[(op << PAGE_OP_SHIFT) + PageOp.CONTEXT]!, table.mappedWindow, table.mappedOffset);
  }

  unmapHandles(batch: HandleBatch): void {
    const table = this.#table;
    table.enter();
    table.unmapHandles(batch);
    table.leave();
  }

  mapOne(ref: number, readonly: boolean, context: number, pageChanged: PageChanged): number {
    const flags = readonly ? Gntmap.readonly : 0;
    let handle = this.#attempt(ref, flags);
    if (handle === Gntst.eagain) handle = this.#attemptAgain(ref, flags);
    if (handle >= 0) pageChanged(context, this.#table.mappedWindow, this.#table.mappedOffset);
    return handle;
  }

  #attempt(ref: number, flags: number): number {
    const table = this.#table;
    table.enter();
    const handle = shimHcallGntmap(table, 0, flags, ref, table.domid);
    table.leave();
    return handle;
  }

  /** At once, and then as patience has it. */
  #attemptAgain(ref: number, flags: number): number {
    let handle = this.#attempt(ref, flags);
    if (handle !== Gntst.eagain || this.#patience === null) return handle;
    const status = settle(this.#table, ref, this.#patience, () => {
      handle = this.#attempt(ref, flags);
      return handle >= 0 ? Gntst.okay : handle;
    });
    return status === Gntst.okay ? handle : status;
  }

  unmapOne(handle: number): number {
    const table = this.#table;
    table.enter();
    const status = table.unmap(handle);
    table.leave();
    return status;
  }

  copyFrom(ref: number, offset: number, into: Uint8Array, at: number, length: number): number {
    return this.#copy(ref, offset, into, at, length, true);
  }

  copyTo(ref: number, offset: number, from: Uint8Array, at: number, length: number): number {
    return this.#copy(ref, offset, from, at, length, false);
  }

  /** Pins, checks, copies, unpins: the order of GNTTABOP_copy, so that a bad ref is reported before a bad range. */
  #copy(ref: number, offset: number, bytes: Uint8Array, at: number, length: number, fromGuest: boolean): number {
    if (length === 0) return Gntst.okay;
    const status = this.#tryCopy(ref, offset, bytes, at, length, fromGuest);
    if (status !== Gntst.eagain) return status;
    const second = this.#tryCopy(ref, offset, bytes, at, length, fromGuest);
    if (second !== Gntst.eagain || this.#patience === null) return second;
    return settle(this.#table, ref, this.#patience, () => this.#tryCopy(ref, offset, bytes, at, length, fromGuest));
  }

  #tryCopy(ref: number, offset: number, bytes: Uint8Array, at: number, length: number, fromGuest: boolean): number {
    const table = this.#table;
    table.enter();
    try {
      if (table.state.dying) return Gntst.bad_domain;
      const status = table.pin(ref, Domid.BACKEND, fromGuest, false);
      if (status !== Gntst.okay) return status;
      try {
        if (!(offset >= 0 && length > 0 && offset + length <= PAGE_SIZE)) return Gntst.bad_copy_arg;
        if (!table.active.covers(ref, offset, length)) return Gntst.general_error;
        return this.#move(table.active.frame(ref), offset, bytes, at, length, fromGuest);
      } finally {
        table.unpin(ref, fromGuest);
      }
    } finally {
      table.leave();
    }
  }

  #move(gfn: number, offset: number, bytes: Uint8Array, at: number, length: number, fromGuest: boolean): number {
    const { memory, frames } = this.#table;
    let window = memory.window(gfn);
    let page = 0;
    if (window !== undefined) {
      page = gfn - window.gfn;
    } else {
      page = frames.ownPageAt(gfn);
      if (page < 0) return Gntst.bad_page;
      window = frames.own;
    }
    const start = page * PAGE_SIZE + offset;
    if (fromGuest) copyBytes(window.u8, start, bytes, at, length);
    else copyBytes(bytes, at, window.u8, start, length);
    return Gntst.okay;
  }
}

/** Below this a loop is faster than the two views a bulk copy needs. */
const BULK = 32;

function copyBytes(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, length: number): void {
  if (length < BULK) {
    for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i]!;
  } else if (fromAt === 0 && length === from.length) {
    to.set(from, toAt);
  } else {
    to.set(from.subarray(fromAt, fromAt + length), toAt);
  }
}
