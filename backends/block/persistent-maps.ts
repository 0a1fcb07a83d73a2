/**
 * The pages of requests under persistent grants: looked up, else mapped and kept (spec A4). A queue has one only when
 * both sides agreed on the feature.
 */
import { MapBatch } from '../../shim/grant-table/foreign.js';
import type { ForeignGrants, PageChanged } from '../../shim/grant-table/foreign.js';
import type { RamWindow } from '../../shim/memory/guest-memory.js';
import { DUPLICATE, NOT_THERE, PersistentGrants, TABLE_FULL } from './persistent.js';
import type { Records } from './records.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';
import type { RequestCopy } from './request.js';
import { Counter } from './statistics.js';

/** Pages unmapped at once (BLKIF_MAX_SEGMENTS_PER_REQUEST, as Linux has it). */
const UNMAP_BATCH = 11;
/** Shortest time between two alerts of a kind (ms): a guest may not fill the log. */
const ALERT_INTERVAL_MS = 5000;

export interface PersistentAlerts {
  /** A frontend used a gref twice at a time; at most once in five seconds. */
  duplicate(): void;
  /** The limit is reached; told once. */
  overflow(): void;
}

export class PersistentMaps {
  private readonly record = new Int32Array(MAX_INDIRECT_SEGMENTS);
  private readonly window: (RamWindow | undefined)[] = Array.from({ length: MAX_INDIRECT_SEGMENTS }, () => undefined);
  private readonly offset = new Int32Array(MAX_INDIRECT_SEGMENTS);
  /** Records a request uses: how many, and which, from tag * MAX_INDIRECT_SEGMENTS on. */
  private readonly used: Int32Array;
  private readonly usedCount: Int32Array;
  private readonly unmaps = new MapBatch(UNMAP_BATCH);
  private alertAt = 0;
  private overflowTold = false;

  constructor(
    private readonly grants: ForeignGrants,
    private readonly records: Records,
    private readonly counters: Float64Array,
    /** The time in ms, read once per batch. */
    private readonly clock: Float64Array,
    private readonly alerts: PersistentAlerts,
    private readonly table = new PersistentGrants(),
  ) {
    this.used = new Int32Array(records.count * MAX_INDIRECT_SEGMENTS);
    this.usedCount = new Int32Array(records.count);
  }

  /** When `upkeep` has something to do (ms); Infinity if never. */
  get due(): number {
    return this.table.due;
  }

  /**
   * Hands the page of each segment over, in order; false, and none handed over, if one cannot be mapped. What was
   * mapped or looked up by then is the tag's all the same, and given back by `put` and with its handles.
   * @param maps a batch with room for all segments
   */
  map(tag: number, request: RequestCopy, maps: MapBatch, page: PageChanged): boolean {
    const { segments } = request;
    maps.count = 0;
    for (let i = 0; i < segments; i++) {
      const gref = request.segment[2 * i]!;
      const record = this.table.take(gref);
      this.record[i] = record;
      // Always for writing: a later request may go the other way.
      if (record === NOT_THERE) maps.add(gref, false, i);
    }
    const failed = maps.count > 0 ? this.grants.map(maps, this.mapped) : 0;
    const complete = this.keep(tag, maps) && failed === 0;
    this.own(tag, segments);
    this.show();
    if (!complete) return false;
    for (let i = 0; i < segments; i++) {
      const record = this.record[i]!;
      if (record >= 0) page(i, this.table.window[record]!, this.table.offset[record]!);
      else page(i, this.window[i]!, this.offset[i]!);
    }
    return true;
  }

  /** The request is over: its grants may be used by others and, after a while, purged. */
  put(tag: number): void {
    const first = tag * MAX_INDIRECT_SEGMENTS;
    const now = this.clock[0]!;
    for (let i = 0; i < this.usedCount[tag]!; i++) this.table.put(this.used[first + i]!, now);
    this.usedCount[tag] = 0;
    this.show();
  }

  /** Purges what is due. */
  upkeep(): void {
    this.table.purge(this.clock[0]!);
    this.counters[Counter.purged]! += this.table.purgedCount;
    this.unmapPurged();
    this.show();
  }

  /** Unmaps everything. No request is in flight. */
  close(): void {
    this.table.purgeAll();
    this.unmapPurged();
    this.show();
  }

  private readonly mapped: PageChanged = (segment, window, offset) => {
    this.window[segment] = window;
    this.offset[segment] = offset;
  };

  /** Keeps what the batch mapped. Each op is the next one's predecessor, whatever becomes of it (spec A4.4). */
  private keep(tag: number, maps: MapBatch): boolean {
    const { records, table } = this;
    let complete = true;
    for (let op = 0; op < maps.count; op++) {
      const handle = maps.handle[op]!;
      if (maps.status[op] !== 0 || handle < 0) {
        complete = false;
        continue;
      }
      const segment = maps.context[op]!;
      const record = table.insert(maps.ref[op]!, handle, this.window[segment]!, this.offset[segment]!, this.clock[0]!);
      if (record >= 0) {
        this.record[segment] = record;
        continue;
      }
      // For this request only.
      records.hold(tag, handle);
      if (record === DUPLICATE) this.alertDuplicate();
      else if (record === TABLE_FULL) this.alertOverflow();
    }
    return complete;
  }

  private own(tag: number, segments: number): void {
    const first = tag * MAX_INDIRECT_SEGMENTS;
    let count = 0;
    for (let i = 0; i < segments; i++) {
      const record = this.record[i]!;
      if (record >= 0) this.used[first + count++] = record;
    }
    this.usedCount[tag] = count;
  }

  private show(): void {
    this.counters[Counter.persistent] = this.table.count;
    this.counters[Counter.persistent_in_use] = this.table.inUse;
  }

  private alertDuplicate(): void {
    this.counters[Counter.duplicate_grefs]! += 1;
    const now = this.clock[0]!;
    if (now < this.alertAt) return;
    this.alertAt = now + ALERT_INTERVAL_MS;
    this.alerts.duplicate();
  }

  private alertOverflow(): void {
    this.counters[Counter.grant_overflow]! += 1;
    if (this.overflowTold) return;
    this.overflowTold = true;
    this.alerts.overflow();
  }

  private unmapPurged(): void {
    const { table, unmaps } = this;
    for (let at = 0; at < table.purgedCount; at += UNMAP_BATCH) {
      unmaps.count = Math.min(UNMAP_BATCH, table.purgedCount - at);
      for (let i = 0; i < unmaps.count; i++) unmaps.handle[i] = table.purged[at + i]!;
      this.grants.unmap(unmaps);
    }
    table.purgedCount = 0;
  }
}
