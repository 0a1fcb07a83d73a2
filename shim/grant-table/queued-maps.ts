/**
 * Maps that are queued and issued together, as a multicall does (spec A1.3–A1.6). The records live in the batch from
 * `map` until their unmap; a record that has no handle yet is first given the chance to get one.
 */
import { Gnttabop } from '../abi/grant-table.js';
import type { Log } from '../observe/log.js';
import { INVALID_GRANT_HANDLE, MapBatch } from './foreign.js';
import { grantTableOp } from './shim-hypercall.js';
import type { GrantTable } from './table.js';

export class QueuedMaps {
  readonly #table: GrantTable;
  readonly #log: Log;
  readonly records: MapBatch;
  /** Records from here on have not been issued. */
  #issued = 0;

  constructor(table: GrantTable, capacity: number, log: Log) {
    this.#table = table;
    this.#log = log;
    this.records = new MapBatch(capacity);
  }

  /** Queues a map; returns its record, or -1 when there is no room. */
  map(ref: number, readonly: boolean, context: number): number {
    return this.records.count < this.records.capacity ? this.records.add(ref, readonly, context) : -1;
  }

  /** Issues what is queued. */
  flush(): void {
    const { records } = this;
    const count = records.count - this.#issued;
    if (count > 0) grantTableOp(this.#table, Gnttabop.map_grant_ref, records, this.#issued, count);
    this.#issued = records.count;
  }

  /**
   * Ends a record's mapping. Nothing is changed, and no unmap issued, when its map did not succeed.
   * @returns a GNTST_*, or -1 for a record without a mapping
   */
  unmap(record: number): number {
    const { records } = this;
    if (records.handle[record] === INVALID_GRANT_HANDLE) this.flush();
    if (records.handle[record] === INVALID_GRANT_HANDLE) {
      this.#log.warn({ ref: records.ref[record] }, 'grant was never mapped: nothing to unmap');
      return -1;
    }
    grantTableOp(this.#table, Gnttabop.unmap_grant_ref, records, record, 1);
    return records.status[record]!;
  }

  /** Forgets all records; every mapping must have ended. */
  clear(): void {
    this.records.count = 0;
    this.#issued = 0;
  }
}
