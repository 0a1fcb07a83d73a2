/**
 * Grants a frontend leaves in place so that they are mapped once and used many times (spec A4): an open-addressing table
 * from gref to record, and the records that no request uses in the order of their last use. A gref is any 32-bit number
 * the guest likes. Nothing is allocated after construction.
 */
import type { RamWindow } from '../../shim/memory/guest-memory.js';

/** Grants kept per ring: those of three times the direct requests a page of ring holds. */
export const MAX_PERSISTENT = 1056;
/** A grant unused for so long goes (ms). */
export const UNUSED_MS = 60_000;
/** Shortest time between two purges (ms). */
export const PURGE_INTERVAL_MS = 100;
/** Per cent of the limit that go when the table was too small. */
const PURGE_PERCENT = 5;

/** Of `take`: no record of that gref, or one that a request in flight uses. */
export const NOT_THERE = -1;
/** Of `insert`: the limit is reached. */
export const TABLE_FULL = -1;
/** Of `insert`: that gref has a record already (the EINVAL of Linux). */
export const DUPLICATE = -2;

const EMPTY = -1;
/** Neighbour of a record that is in use, and so in no list. */
const IN_USE = -2;
/** 2^32 / golden ratio, odd. */
const SPREAD = 0x9e37_79b1;

export class PersistentGrants {
  /** Records held. */
  count = 0;
  /** Of these, used by requests in flight. */
  inUse = 0;
  /** A grant was refused for want of room since the last purge that found something. */
  overflow = false;
  /** When the next purge can find something (ms of the caller's clock). */
  due = Infinity;
  /** Grants purged by the last `purge`: their handles, of which the first `purgedCount` count. */
  readonly purged: Int32Array;
  purgedCount = 0;
  readonly gref: Int32Array;
  readonly handle: Int32Array;
  readonly window: (RamWindow | undefined)[];
  /** Byte offset of the page in its window. */
  readonly offset: Int32Array;
  private readonly lastUsed: Float64Array;
  /** Idle records in the order of their last use; of free records, `newer` is the next free one. */
  private readonly older: Int32Array;
  private readonly newer: Int32Array;
  private oldest = EMPTY;
  private newest = EMPTY;
  private free = 0;
  private readonly slots: Int32Array;
  private readonly mask: number;
  private readonly shift: number;

  constructor(
    readonly max = MAX_PERSISTENT,
    private readonly unusedMs = UNUSED_MS,
  ) {
    // At most half full, so that probes are short.
    const bits = Math.max(3, 33 - Math.clz32(max));
    this.slots = new Int32Array(1 << bits).fill(EMPTY);
    this.mask = this.slots.length - 1;
    this.shift = 32 - bits;
    this.purged = new Int32Array(max);
    this.gref = new Int32Array(max);
    this.handle = new Int32Array(max);
    this.window = Array.from({ length: max }, () => undefined);
    this.offset = new Int32Array(max);
    this.lastUsed = new Float64Array(max);
    this.older = new Int32Array(max);
    this.newer = Int32Array.from({ length: max }, (_, record) => (record + 1 < max ? record + 1 : EMPTY));
  }

  /** The record of a gref if no request uses it, marked as used from now on; else NOT_THERE. */
  take(gref: number): number {
    const record = this.slots[this.find(gref)]!;
    if (record === EMPTY || this.older[record] === IN_USE) return NOT_THERE;
    this.unlink(record);
    this.inUse++;
    return record;
  }

  /** Keeps a mapped grant, in use from now on; returns its record, TABLE_FULL or DUPLICATE. */
  insert(gref: number, handle: number, window: RamWindow, offset: number, now: number): number {
    if (this.count === this.max) {
      this.overflow = true;
      this.due = Math.min(this.due, now + PURGE_INTERVAL_MS);
      return TABLE_FULL;
    }
    const slot = this.find(gref);
    if (this.slots[slot] !== EMPTY) return DUPLICATE;
    const record = this.free;
    this.free = this.newer[record]!;
    this.slots[slot] = record;
    this.gref[record] = gref;
    this.handle[record] = handle;
    this.window[record] = window;
    this.offset[record] = offset;
    this.older[record] = IN_USE;
    this.count++;
    this.inUse++;
    this.due = Math.min(this.due, now + this.unusedMs);
    return record;
  }

  /** The request that used a record is over. */
  put(record: number, now: number): void {
    this.lastUsed[record] = now;
    this.older[record] = this.newest;
    this.newer[record] = EMPTY;
    if (this.newest === EMPTY) this.oldest = record;
    else this.newer[this.newest] = record;
    this.newest = record;
    this.inUse--;
  }

  /**
   * Drops what has not been used for long, and if the table was too small also some of what was used least recently.
   * Grants in use stay. The handles to unmap are in `purged`.
   */
  purge(now: number): void {
    this.purgedCount = 0;
    const wanted = this.overflow && this.count === this.max ? Math.floor(this.max / 100) * PURGE_PERCENT : 0;
    while (this.oldest !== EMPTY && (this.purgedCount < wanted || now - this.lastUsed[this.oldest]! >= this.unusedMs)) {
      this.remove(this.oldest);
    }
    if (this.purgedCount > 0) this.overflow = false;
    this.plan(now);
  }

  /** Drops every grant that no request uses, as `purge` does. */
  purgeAll(): void {
    this.purgedCount = 0;
    while (this.oldest !== EMPTY) this.remove(this.oldest);
    this.overflow = false;
    this.due = this.count === 0 ? Infinity : this.due;
  }

  private plan(now: number): void {
    if (this.count === 0) {
      this.due = Infinity;
      return;
    }
    const soonest = now + PURGE_INTERVAL_MS;
    if (this.overflow) this.due = soonest;
    else this.due = Math.max(soonest, (this.oldest === EMPTY ? now : this.lastUsed[this.oldest]!) + this.unusedMs);
  }

  private remove(record: number): void {
    this.unlink(record);
    this.purged[this.purgedCount++] = this.handle[record]!;
    this.window[record] = undefined;
    this.close(this.find(this.gref[record]!));
    this.newer[record] = this.free;
    this.free = record;
    this.count--;
  }

  /** Takes an idle record out of the order of use. */
  private unlink(record: number): void {
    const older = this.older[record]!;
    const newer = this.newer[record]!;
    if (older === EMPTY) this.oldest = newer;
    else this.newer[older] = newer;
    if (newer === EMPTY) this.newest = older;
    else this.older[newer] = older;
    this.older[record] = IN_USE;
  }

  /** Slot of a gref, or the empty one where it would go. */
  private find(gref: number): number {
    let slot = this.home(gref);
    for (;;) {
      const record = this.slots[slot]!;
      if (record === EMPTY || this.gref[record] === (gref | 0)) return slot;
      slot = (slot + 1) & this.mask;
    }
  }

  private home(gref: number): number {
    return Math.imul(gref, SPREAD) >>> this.shift;
  }

  /** Empties a slot and moves those behind it that would not be found any more. */
  private close(slot: number): void {
    const { slots, mask } = this;
    let hole = slot;
    for (let at = (hole + 1) & mask; ; at = (at + 1) & mask) {
      const record = slots[at]!;
      if (record === EMPTY) break;
      // It may move if its home is not between the hole (exclusive) and where it is.
      const home = this.home(this.gref[record]!);
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        slots[hole] = record;
        hole = at;
      }
    }
    slots[hole] = EMPTY;
  }
}
