/**
 * Grants for programs of others: a guest's pages mapped by reference, as /dev/xen/gntdev does for processes in dom0. The
 * buffers are the guest's own pages, at addresses that io_uring and other threads of this process may use until `unmap`.
 */
import { Gntst } from '../abi/grant-table.js';
import type { RamWindow } from '../memory/guest-memory.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import { silentLog, type Log } from '../observe/log.js';
import { MapBatch } from './foreign.js';
import { gnttabMapRefs, gnttabUnmapRefs } from './map-refs.js';
import { retryEagain, type Sleep } from './retry.js';
import type { GrantTable } from './table.js';

export interface GntdevMapOptions {
  /** Grants that permit reading only can be mapped so, too. Default false. */
  readonly readonly?: boolean;
  /** Ends the wait for pages that are paged out: the frontend has gone. */
  readonly signal?: AbortSignal;
  /** For tests. */
  readonly sleep?: Sleep;
}

/** Pages of a guest, in the order of the references. They stay until `unmap`, whatever the guest does. */
export class GrantMapping {
  readonly #table: GrantTable;
  readonly #ops: MapBatch;
  readonly #buffers: Uint8Array[];

  constructor(table: GrantTable, ops: MapBatch, buffers: Uint8Array[], readonly addresses: readonly number[]) {
    this.#table = table;
    this.#ops = ops;
    this.#buffers = buffers;
  }

  /** 4096 bytes each; none after `unmap`. A view taken before must not be touched afterwards. */
  get buffers(): readonly Uint8Array[] {
    return this.#buffers;
  }

  /** Gives the pages back. Returns 0, or the first GNTST_* that is not; again it does nothing and returns 0. */
  unmap(): number {
    // What has been unmapped holds no handle, and nothing is issued for it (spec A1.3, A1.8).
    if (this.#buffers.length === 0) return Gntst.okay;
    this.#buffers.length = 0;
    gnttabUnmapRefs(this.#table, this.#ops, this.#ops.count);
    return this.#ops.status.find((status) => status !== Gntst.okay) ?? Gntst.okay;
  }
}

export class Gntdev {
  readonly #table: GrantTable;
  readonly #log: Log;

  /** @param table of a guest this thread is attached to (attachGuest) */
  constructor(table: GrantTable, log: Log = silentLog) {
    this.#table = table;
    this.#log = log;
  }

  /**
   * Maps all references or none. Waits for pages that are paged out as spec A0 has it, without keeping the thread.
   * @returns the mapping, or the negative GNTST_* of the first reference that cannot be mapped
   */
  async map(domid: number, refs: readonly number[], options: GntdevMapOptions = {}): Promise<GrantMapping | number> {
    const table = this.#table;
    if (domid !== table.domid) return Gntst.bad_domain;
    if (refs.length === 0) return Gntst.general_error;
    // A record lives until its unmap: the batch belongs to this mapping alone (spec A1.4).
    const ops = new MapBatch(refs.length);
    refs.forEach((ref, i) => ops.add(ref, options.readonly ?? false, i));
    const buffers: Uint8Array[] = [];
    const addresses: number[] = [];
    const hand = (i: number, window: RamWindow, offset: number): void => {
      buffers[i] = window.u8.subarray(offset, offset + PAGE_SIZE);
      addresses[i] = window.hva + offset;
    };
    const { signal = new AbortController().signal, sleep } = options;
    let failed = gnttabMapRefs(table, ops, null, hand, refs.length);
    if (ops.status.includes(Gntst.eagain)) {
      const retry = { func: 'gntdev_map', who: `domain ${domid}`, signal, log: this.#log };
      failed = await retryEagain(table, ops, hand, refs.length, sleep === undefined ? retry : { ...retry, sleep });
    }
    if (failed === 0 && !signal.aborted) return new GrantMapping(table, ops, buffers, addresses);
    const status = ops.status.find((each) => each !== Gntst.okay) ?? Gntst.bad_page;
    this.#release(ops);
    return status;
  }

  /** Unmaps those of a batch that were mapped. */
  #release(ops: MapBatch): void {
    const mapped = new MapBatch(ops.count);
    for (let i = 0; i < ops.count; i++) if (ops.handle[i]! >= 0) mapped.handle[mapped.count++] = ops.handle[i]!;
    gnttabUnmapRefs(this.#table, mapped, mapped.count);
  }
}
