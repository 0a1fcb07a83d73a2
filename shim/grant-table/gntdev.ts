/**
 * Grants for programs of others: a guest's pages mapped by reference, as /dev/xen/gntdev does for processes in dom0. The
 * buffers are the guest's own pages, at addresses that io_uring and other threads of this process may use until `unmap`.
 */
import { Gntst } from '../abi/grant-table.js';
import type { AttachedGuest } from '../memory/attach.js';
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

/** A page in a file that another process can map: MAP_SHARED, one page at `offset`. */
export interface PagePlace {
  readonly fd: number;
  /** Bytes. */
  readonly offset: number;
}

/** What a Gntdev needs of the guest its thread is attached to. */
export type GntdevGuest = Pick<AttachedGuest, 'grantTable' | 'shared'>;

/** Pages of a guest, in the order of the references. They stay until `unmap`, whatever the guest does. */
export class GrantMapping {
  readonly #guest: GntdevGuest;
  readonly #ops: MapBatch;
  readonly #buffers: Uint8Array[];
  readonly #addresses: number[];
  readonly #ended: (mapping: GrantMapping) => void;

  /** Made by Gntdev.map. */
  constructor(
    guest: GntdevGuest,
    ops: MapBatch,
    pages: { readonly buffers: Uint8Array[]; readonly addresses: number[] },
    ended: (mapping: GrantMapping) => void,
  ) {
    this.#guest = guest;
    this.#ops = ops;
    this.#buffers = pages.buffers;
    this.#addresses = pages.addresses;
    this.#ended = ended;
  }

  /** 4096 bytes each; none after `unmap`. A view taken before must not be touched afterwards. */
  get buffers(): readonly Uint8Array[] {
    return this.#buffers;
  }

  /** Where the buffers are in this process, for io_uring and the like; none after `unmap`. */
  get addresses(): readonly number[] {
    return this.#addresses;
  }

  /**
   * Where another process finds a page: hand it the descriptor, and do not close it. Undefined after `unmap`, and for a
   * page that is the shim's own (a grant frame the guest grants): those are not for others.
   */
  place(index: number): PagePlace | undefined {
    const address = this.#addresses[index];
    if (address === undefined) return undefined;
    const range = this.#guest.shared().find(({ hva, length }) => address >= hva && address < hva + length);
    return range && { fd: range.fd, offset: range.offset + address - range.hva };
  }

  /**
   * Gives the pages back; whoever else uses them must have finished. Returns 0, or the first GNTST_* that is not: after
   * a reset of the machine GNTST_bad_handle, because nothing is mapped any more. Again it does nothing and returns 0.
   */
  unmap(): number {
    // What has been unmapped holds no handle, and nothing is issued for it (spec A1.3, A1.8).
    if (this.#buffers.length === 0) return Gntst.okay;
    gnttabUnmapRefs(this.#guest.grantTable, this.#ops, this.#ops.count);
    // Nothing of an ended mapping is left to be used by mistake (spec A1.6).
    this.#buffers.length = 0;
    this.#addresses.length = 0;
    this.#ended(this);
    return this.#ops.status.find((status) => status !== Gntst.okay) ?? Gntst.okay;
  }
}

export class Gntdev {
  readonly #guest: GntdevGuest;
  readonly #table: GrantTable;
  readonly #log: Log;
  readonly #mappings = new Set<GrantMapping>();
  #waits = new AbortController();

  /** @param guest this thread is attached to (attachGuest) */
  constructor(guest: GntdevGuest, log: Log = silentLog) {
    this.#guest = guest;
    this.#table = guest.grantTable;
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
    const { sleep } = options;
    const signal = options.signal === undefined ? this.#waits.signal : AbortSignal.any([options.signal, this.#waits.signal]);
    let failed = gnttabMapRefs(table, ops, null, hand, refs.length);
    if (ops.status.includes(Gntst.eagain)) {
      const retry = { func: 'gntdev_map', who: `domain ${domid}`, signal, log: this.#log };
      failed = await retryEagain(table, ops, hand, refs.length, sleep === undefined ? retry : { ...retry, sleep });
    }
    if (failed === 0 && !signal.aborted) {
      const mapping = new GrantMapping(this.#guest, ops, { buffers, addresses }, (ended) => this.#mappings.delete(ended));
      this.#mappings.add(mapping);
      return mapping;
    }
    const status = ops.status.find((each) => each !== Gntst.okay) ?? Gntst.bad_page;
    this.#release(ops);
    return status;
  }

  /**
   * Ends all waits and unmaps everything, as closing /dev/xen/gntdev does. It may be used again afterwards.
   * @returns how many mappings there were
   */
  releaseAll(): number {
    this.#waits.abort();
    this.#waits = new AbortController();
    const left = [...this.#mappings];
    for (const mapping of left) mapping.unmap();
    return left.length;
  }

  /** Unmaps those of a batch that were mapped: an unmap is never issued for a handle that is -1 (spec A1.3). */
  #release(ops: MapBatch): void {
    const mapped = new MapBatch(ops.count);
    for (let i = 0; i < ops.count; i++) if (ops.handle[i]! >= 0) mapped.handle[mapped.count++] = ops.handle[i]!;
    gnttabUnmapRefs(this.#table, mapped, mapped.count);
  }
}
