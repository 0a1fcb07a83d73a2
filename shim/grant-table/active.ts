/**
 * Active entries: who has a grant in use, and which frame it had when the first pin was taken. State word: read-only
 * pins in bits 0–7, read-write pins in bits 8–15 (each at most 128), lock holder's slot + 1 in bits 16–23, owner in
 * bits 24–31.
 *
 * The owner is the one thread that has used the entry so far: it needs no lock, for nobody else touches the entry
 * (nearly every grant belongs to one device all its life). Another thread that comes along makes the entry common, with
 * nobody in the table meanwhile; from then on everybody takes the lock.
 *
 * Here and in maptrack.ts, plain loads and stores stand where C would have acquire and release: Atomics.load and
 * Atomics.store are calls of 10 ns each, half of what a map and unmap may cost. x86 (the only machine this runs on)
 * keeps loads in order and stores in order, V8 keeps accesses of typed arrays in the order of the program, and every
 * exclusive step is a compare-and-exchange.
 */
import { Gntst, Gtf } from '../abi/grant-table.js';
import { Domid } from '../abi/xen.js';
import { clearStatus, entryFrame, setStatus } from './entry-v1.js';
import { permits, rangeOf, TRANSITIVE, V2_ENTRIES_SHIFT } from './entry-v2.js';
import type { TableFrames } from './frames.js';
import { ACTIVE_SHIFT, ENTRIES_SHIFT, Head, type GrantState } from './state.js';

const RO_ONE = 1;
const RW_ONE = 1 << 8;
const RO_MASK = 0xff;
const RW_MASK = 0xff00;
const PINS = RO_MASK | RW_MASK;
const OWNER_SHIFT = 24;
const OWNER_MASK = 0xff << OWNER_SHIFT;
/** Owner of an entry that several threads use. */
const COMMON = 0xff;
const COMMON_BITS = COMMON << OWNER_SHIFT;
/** The highest bit of a counter: with it set, no more pins of that kind. */
const RO_FULL = 0x80;
const RW_FULL = 0x8000;
const LOCK_SHIFT = 16;

const FRAME = 1;
const DOMID = 2;
/** Of a version 2 grant: start << 16 | length of the part of the page it gives, 0 = all of it. Version 1 leaves it 0. */
const RANGE = 3;

/** Flags of an entry that change nothing for us: PAT, PCD, PWT. */
const HINTS = 0xe0;
const READONLY_ENTRY = Gtf.permit_access | Gtf.readonly;

/** Rounds of looking before a waiter lets another thread run. */
const SPINS = 200;

/** No GNTST_*: the entry is not what `pinFirst` is for. */
export const UNUSUAL = 1;

export class ActiveEntries {
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #state: GrantState;
  readonly #frames: TableFrames;
  readonly #lockBits: number;
  readonly #owner: number;
  /** State of an entry this thread owns and nobody has pinned. */
  readonly #mine: number;
  readonly #alone: (section: () => void) => void;

  /** @param alone for a thread in the table: leaves, runs the section with nobody in the table, and enters again */
  constructor(state: GrantState, frames: TableFrames, slot: number, alone: (section: () => void) => void) {
    this.#state = state;
    this.#words = state.words;
    this.#at = state.activeAt;
    this.#frames = frames;
    this.#lockBits = (slot + 1) << LOCK_SHIFT;
    this.#owner = slot + 1;
    this.#mine = this.#owner << OWNER_SHIFT;
    this.#alone = alone;
  }

  /** State of an entry this thread owns and nobody has pinned. */
  get unpinnedState(): number {
    return this.#mine;
  }

  /**
   * Takes the entry for this thread alone, for a few dozen instructions; returns its pins. At most one at a time. The
   * table may have been left and entered again meanwhile.
   */
  lock(ref: number): number {
    const seen = this.#words[this.#at + (ref << ACTIVE_SHIFT)]!;
    return seen >>> OWNER_SHIFT === this.#owner ? seen & PINS : this.#lockForeign(ref);
  }

  #lockForeign(ref: number): number {
    const words = this.#words;
    const at = this.#at + (ref << ACTIVE_SHIFT);
    for (let round = 1; ; round++) {
      const seen = words[at]!;
      const owner = seen >>> OWNER_SHIFT;
      if (owner === this.#owner) return seen & PINS;
      if (owner === 0) {
        Atomics.compareExchange(words, at, seen, seen | (this.#owner << OWNER_SHIFT));
      } else if (owner !== COMMON) {
        this.#alone(() => {
          words[at] = (words[at]! & ~OWNER_MASK) | COMMON_BITS;
        });
      } else if ((seen & ~PINS) === COMMON_BITS) {
        if (Atomics.compareExchange(words, at, seen, seen | this.#lockBits) === seen) return seen & PINS;
      } else if (round % SPINS === 0) {
        Atomics.wait(words, at, seen, 1);
      }
    }
  }

  unlock(ref: number, pins: number): void {
    const words = this.#words;
    const at = this.#at + (ref << ACTIVE_SHIFT);
    words[at] = (words[at]! & OWNER_MASK) | pins;
  }

  /**
   * The first pin of an entry that is this thread's own and permits the backends' domain: nearly every map.
   * @returns okay, or why its frame cannot be had (eagain, bad_page); UNUSUAL, with nothing done, for any other entry:
   * `pin` knows what to make of it
   */
  pinFirst(ref: number, readonly: boolean): number {
    const words = this.#words;
    const at = this.#at + (ref << ACTIVE_SHIFT);
    if (!(ref >= 0 && ref < words[Head.NR_REFS]!) || words[at] !== this.#mine) return UNUSUAL;
    const frames = this.#frames;
    if (frames.version2 || words[Head.DYING] !== 0) return UNUSUAL;
    const shared = frames.words[ref >>> ENTRIES_SHIFT]!;
    const entry = frames.entryAt(ref);
    const seen = shared[entry]!;
    // Nothing but the type and the hints of caching may be set: no domain but 0, no status bits, no sub-page.
    if ((seen & ~HINTS) !== Gtf.permit_access && !(readonly && (seen & ~HINTS) === READONLY_ENTRY)) {
      return UNUSUAL;
    }
    const set = readonly ? Gtf.reading : Gtf.reading | Gtf.writing;
    if (Atomics.compareExchange(shared, entry, seen, seen | set) !== seen) return UNUSUAL;
    const gfn = shared[entry + 1]! >>> 0;
    const status = frames.pin(gfn);
    if (status !== Gntst.okay) {
      clearStatus(shared, entry, set);
      return status;
    }
    words[at + FRAME] = gfn;
    words[at + DOMID] = Domid.BACKEND;
    words[at] = this.#mine + (readonly ? RO_ONE : RW_ONE);
    return Gntst.okay;
  }

  /**
   * Takes a pin for `domid`. The caller has checked that `ref` is in the table.
   * @param mapping true for a map, false for a copy
   * @returns okay, or why not; a refused entry is as it was
   */
  pin(ref: number, domid: number, readonly: boolean, mapping: boolean): number {
    const pins = this.lock(ref);
    const words = this.#words;
    const at = this.#at + (ref << ACTIVE_SHIFT);
    if (pins !== 0 && (words[at + DOMID] !== domid || (pins & (readonly ? RO_FULL : RW_FULL)) !== 0)) {
      this.unlock(ref, pins);
      return Gntst.general_error;
    }
    if (this.#frames.version2) {
      // The version may have changed, and the number of entries with it, while this thread waited for the entry.
      if (ref < words[Head.NR_REFS]!) return this.#pin2(ref, at, pins, domid, readonly, mapping);
      this.unlock(ref, pins);
      return Gntst.bad_gntref;
    }
    if (pins === 0 || (!readonly && (pins & RW_MASK) === 0)) {
      const shared = this.#frames.words[ref >>> ENTRIES_SHIFT]!;
      const entry = this.#frames.entryAt(ref);
      let status = setStatus(shared, entry, domid, readonly, mapping);
      if (status === Gntst.okay && pins === 0) {
        const gfn = entryFrame(shared, entry);
        status = this.#frames.pin(gfn);
        if (status === Gntst.okay) {
          words[at + FRAME] = gfn;
          words[at + DOMID] = domid;
        } else {
          clearStatus(shared, entry, readonly ? Gtf.reading : Gtf.reading | Gtf.writing);
        }
      }
      if (status !== Gntst.okay) {
        this.unlock(ref, pins);
        return status;
      }
    }
    this.unlock(ref, pins + (readonly ? RO_ONE : RW_ONE));
    return Gntst.okay;
  }

  /** `pin` of a version 2 entry that this thread has locked. */
  #pin2(ref: number, at: number, pins: number, domid: number, readonly: boolean, mapping: boolean): number {
    let status: number = pins !== 0 && mapping && this.#words[at + RANGE] !== 0 ? Gntst.general_error : Gntst.okay;
    if (status === Gntst.okay && (pins === 0 || (!readonly && (pins & RW_MASK) === 0))) {
      status = this.#use2(ref, at, pins, domid, readonly, mapping);
    }
    this.unlock(ref, status === Gntst.okay ? pins + (readonly ? RO_ONE : RW_ONE) : pins);
    return status;
  }

  #use2(ref: number, at: number, pins: number, domid: number, readonly: boolean, mapping: boolean): number {
    const frames = this.#frames;
    const shared = frames.words[ref >>> V2_ENTRIES_SHIFT]!;
    const entry = frames.entry2At(ref);
    const first = permits(Atomics.load(shared, entry), domid, readonly, mapping);
    if (first === TRANSITIVE) return this.#transitive(shared, entry);
    if (first !== Gntst.okay) return first;
    const set = readonly ? Gtf.reading : Gtf.reading | Gtf.writing;
    frames.orStatus(ref, set);
    const word = Atomics.load(shared, entry);
    let status = permits(word, domid, readonly, mapping);
    if (status === TRANSITIVE) status = Gntst.general_error;
    if (status === Gntst.okay && pins === 0) {
      const extent = shared[entry + 1]!;
      const gfn = shared[entry + 2]! >>> 0;
      status = shared[entry + 3] === 0 ? frames.pin(gfn) : Gntst.bad_page;
      if (status === Gntst.okay) {
        this.#words[at + FRAME] = gfn;
        this.#words[at + DOMID] = domid;
        this.#words[at + RANGE] = rangeOf(word, extent);
      }
    }
    // A pin that is there already keeps its bit.
    if (status !== Gntst.okay) frames.clearStatus(ref, pins === 0 ? set : Gtf.writing);
    return status;
  }

  /**
   * A grant of what somebody else granted to the guest. Nobody could have: Xen does not take the guest itself for that,
   * and the backends' domain, the only other one there is, grants nothing.
   */
  #transitive(shared: Int32Array, entry: number): number {
    return (shared[entry + 1]! & 0xffff) === Domid.BACKEND ? Gntst.bad_gntref : Gntst.general_error;
  }

  /** Does a copy of `length` bytes from `offset` stay in what a pinned entry gives? Always so for a whole page. */
  covers(ref: number, offset: number, length: number): boolean {
    const range = this.#words[this.#at + (ref << ACTIVE_SHIFT) + RANGE]!;
    if (range === 0) return true;
    const start = range >>> 16;
    return offset >= start && offset + length <= start + (range & 0xffff);
  }

  /** Drops a pin. */
  unpin(ref: number, readonly: boolean): void {
    this.unpinLocked(ref, this.lock(ref), readonly);
  }

  /** Drops the only pin of an entry that is this thread's own: nearly every unmap. False, with nothing done, otherwise. */
  unpinLast(ref: number, readonly: boolean): boolean {
    const words = this.#words;
    const at = this.#at + (ref << ACTIVE_SHIFT);
    const mine = this.#mine;
    if (words[at] !== mine + (readonly ? RO_ONE : RW_ONE) || words[Head.DYING] !== 0) return false;
    const frames = this.#frames;
    if (frames.version2) return false;
    Atomics.and(frames.words[ref >>> ENTRIES_SHIFT]!, frames.entryAt(ref), ~(Gtf.reading | Gtf.writing));
    if (frames.residency !== null) this.#release(words[at + FRAME]! >>> 0, true, !readonly);
    words[at] = mine;
    return true;
  }

  /** Drops a pin of an entry this thread has locked, and unlocks it. */
  unpinLocked(ref: number, pins: number, readonly: boolean): void {
    const left = pins - (readonly ? RO_ONE : RW_ONE);
    let gone = left === 0 ? Gtf.reading : 0;
    if (!readonly && (left & RW_MASK) === 0) gone |= Gtf.writing;
    if (gone !== 0) {
      if (this.#words[Head.DYING] === 0) this.#clear(ref, gone);
      if (this.#frames.residency !== null) this.#release(this.frame(ref), left === 0, (gone & Gtf.writing) !== 0);
    }
    this.unlock(ref, left);
  }

  /** The frame may go when the entry's last pin has gone. */
  #release(gfn: number, last: boolean, written: boolean): void {
    if (written) this.#frames.residency?.wrote(gfn);
    if (last) this.#frames.unpin(gfn);
  }

  #clear(ref: number, flags: number): void {
    if (this.#frames.version2) {
      this.#frames.clearStatus(ref, flags);
      return;
    }
    clearStatus(this.#frames.words[ref >>> ENTRIES_SHIFT]!, this.#frames.entryAt(ref), flags);
  }

  /** The frame of a pinned entry: the one of the first pin, whatever the guest has written since. */
  frame(ref: number): number {
    return this.#words[this.#at + (ref << ACTIVE_SHIFT) + FRAME]! >>> 0;
  }

  /** The frame an entry names at this moment, pinned or not. */
  frameNamed(ref: number): number {
    const frames = this.#frames;
    return frames.version2
      ? frames.words[ref >>> V2_ENTRIES_SHIFT]![frames.entry2At(ref) + 2]! >>> 0
      : frames.words[ref >>> ENTRIES_SHIFT]![frames.entryAt(ref) + 1]! >>> 0;
  }

  /** Read-only and read-write pins of an entry. */
  pins(ref: number): { ro: number; rw: number } {
    const state = Atomics.load(this.#words, this.#at + (ref << ACTIVE_SHIFT));
    return { ro: state & RO_MASK, rw: (state & RW_MASK) >>> 8 };
  }

  isPinned(ref: number): boolean {
    return (Atomics.load(this.#words, this.#at + (ref << ACTIVE_SHIFT)) & PINS) !== 0;
  }

  /** Refs pinned from `first` on. */
  *pinned(first = 0): Generator<number> {
    for (let ref = first; ref < this.#state.maxRefs; ref++) {
      if ((Atomics.load(this.#words, this.#at + (ref << ACTIVE_SHIFT)) & PINS) !== 0) yield ref;
    }
  }

  /** Clears the status bits of every pinned entry; exclusive section only. */
  clearAllStatus(): void {
    for (const ref of this.pinned()) this.#clear(ref, Gtf.reading | Gtf.writing);
  }

  /** The version changed: what is pinned (reserved entries) is whole pages. Exclusive section only. */
  forgetRanges(): void {
    for (let ref = 0; ref < this.#state.maxRefs; ref++) this.#words[this.#at + (ref << ACTIVE_SHIFT) + RANGE] = 0;
  }

  /** Forgets every pin; exclusive section only. */
  forgetAll(): void {
    for (const ref of this.pinned()) this.#frames.unpin(this.frame(ref));
    this.#words.fill(0, this.#at, this.#at + (this.#state.maxRefs << ACTIVE_SHIFT));
  }

  /** Breaks the locks held by a thread that is gone; what it owned is common now. Exclusive section only. */
  breakLocks(slot: number): void {
    const held = COMMON_BITS | ((slot + 1) << LOCK_SHIFT);
    for (let ref = 0; ref < this.#state.maxRefs; ref++) {
      const at = this.#at + (ref << ACTIVE_SHIFT);
      const seen = this.#words[at]!;
      if ((seen & ~PINS) === held || seen >>> OWNER_SHIFT === slot + 1) this.#words[at] = (seen & PINS) | COMMON_BITS;
    }
  }
}
