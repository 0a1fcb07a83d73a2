/**
 * Handles of the backends. An entry says which ref a handle pins and how; free ones are chained. Each thread takes and
 * returns entries of a list of its own and exchanges them in chunks with the list of the table: threads rarely meet.
 * A handle carries the generation of its entry: one that was unmapped stays invalid when the entry is used again.
 */
import { Head, MAPTRACK_SHIFT, type GrantState } from './state.js';

/** Entries a thread takes from the table at once; it gives back when it holds twice as many. */
const CHUNK = 256;

const INDEX_BITS = 18;
const INDEX_MASK = (1 << INDEX_BITS) - 1;
const GENERATION_MASK = 0xfff;

/** Meta word. */
const USED = 1;
const READONLY = 2;
const THREAD_SHIFT = 4;
const THREAD_MASK = 0xff << THREAD_SHIFT;
/** Thread of a free entry that is in the table's list; any other names the thread whose list it is in. */
const NO_THREAD = 0xff << THREAD_SHIFT;
const GENERATION_SHIFT = 12;

/** Words of a thread's list. */
const FREE = 0;
const FREE_COUNT = 1;

export const NO_HANDLE = -1;

export class Maptrack {
  readonly #state: GrantState;
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #thread: number;
  /** This thread's free entries: the first one or -1, and how many. */
  #list: Int32Array = Int32Array.of(-1, 0);

  constructor(state: GrantState, slot: number) {
    this.#state = state;
    this.#words = state.words;
    this.#at = state.maptrackAt;
    this.#thread = slot << THREAD_SHIFT;
  }

  /** Keeps the list of free entries in two words of somebody who takes and returns entries as well (quick_grants.cc). */
  keepListIn(words: Int32Array): void {
    words.set(this.#list);
    this.#list = words;
  }

  /** The thread as entries have it. */
  get threadBits(): number {
    return this.#thread;
  }

  /** Sees to it that there are free entries, if the table has any, and not too many. */
  balance(): void {
    if (this.#list[FREE]! < 0) this.#refill();
    else if (this.#list[FREE_COUNT]! > 2 * CHUNK) this.#giveBack(CHUNK);
  }

  /** Takes an entry; -1 when the table has no more. `commit` or `putBack` follows. */
  take(): number {
    if (this.#list[FREE]! < 0 && !this.#refill()) return NO_HANDLE;
    const list = this.#list;
    const index = list[FREE]!;
    list[FREE] = this.#words[this.#at + (index << MAPTRACK_SHIFT)]!;
    list[FREE_COUNT]!--;
    return index;
  }

  /** Puts the entry to use; returns the handle. */
  commit(index: number, ref: number, readonly: boolean): number {
    const at = this.#at + (index << MAPTRACK_SHIFT);
    const generation = (this.#words[at + 1]! >>> GENERATION_SHIFT) & GENERATION_MASK;
    this.#words[at] = ref;
    const mode = readonly ? USED | READONLY : USED;
    // A plain store: whoever learns of the handle does so after it.
    this.#words[at + 1] = mode | this.#thread | (generation << GENERATION_SHIFT);
    return index | (generation << INDEX_BITS);
  }

  /** Returns an entry that was taken but not committed. */
  putBack(index: number): void {
    const list = this.#list;
    this.#words[this.#at + (index << MAPTRACK_SHIFT)] = list[FREE]!;
    list[FREE] = index;
    list[FREE_COUNT]!++;
  }

  /** The meta word of a handle in use, or 0 for one that is not (stale, never issued). */
  find(handle: number): number {
    const index = handle & INDEX_MASK;
    const generation = handle >>> INDEX_BITS;
    if (handle < 0 || generation > GENERATION_MASK) return 0;
    if (index >= this.#words[Head.MAPTRACK_LIMIT]!) return 0;
    const meta = this.#words[this.#at + (index << MAPTRACK_SHIFT) + 1]!;
    return (meta & USED) !== 0 && meta >>> GENERATION_SHIFT === generation ? meta : 0;
  }

  /** Whether the handle still is what `find` saw; asked again under the lock of its ref. */
  still(handle: number, meta: number): boolean {
    return this.#words[this.#at + ((handle & INDEX_MASK) << MAPTRACK_SHIFT) + 1] === meta;
  }

  ref(handle: number): number {
    return this.#words[this.#at + ((handle & INDEX_MASK) << MAPTRACK_SHIFT)]! >>> 0;
  }

  static isReadonly(meta: number): boolean {
    return (meta & READONLY) !== 0;
  }

  /** Ends a handle; under the lock of its ref. */
  free(handle: number): void {
    const index = handle & INDEX_MASK;
    this.#retire(index);
    this.putBack(index);
    if (this.#list[FREE_COUNT]! > 2 * CHUNK) this.#giveBack(CHUNK);
  }

  /** A plain store: the lock of the ref orders it. */
  #retire(index: number): void {
    const at = this.#at + (index << MAPTRACK_SHIFT) + 1;
    const generation = ((this.#words[at]! >>> GENERATION_SHIFT) + 1) & GENERATION_MASK;
    this.#words[at] = this.#thread | (generation << GENERATION_SHIFT);
  }

  /** Returns all free entries of this thread to the table. */
  release(): void {
    this.#giveBack(this.#list[FREE_COUNT]!);
  }

  /** Handles in use that `thread` mapped, or all of them. */
  *used(thread?: number): Generator<number> {
    const limit = Atomics.load(this.#words, Head.MAPTRACK_LIMIT);
    for (let index = 0; index < limit; index++) {
      const meta = Atomics.load(this.#words, this.#at + (index << MAPTRACK_SHIFT) + 1);
      if ((meta & USED) === 0) continue;
      if (thread !== undefined && (meta & THREAD_MASK) >>> THREAD_SHIFT !== thread) continue;
      yield index | ((meta >>> GENERATION_SHIFT) << INDEX_BITS);
    }
  }

  /** Takes over the free entries of a thread that is gone. */
  inherit(slot: number): void {
    const limit = Atomics.load(this.#words, Head.MAPTRACK_LIMIT);
    for (let index = 0; index < limit; index++) {
      const meta = Atomics.load(this.#words, this.#at + (index << MAPTRACK_SHIFT) + 1);
      if ((meta & (USED | THREAD_MASK)) !== slot << THREAD_SHIFT) continue;
      this.#stamp(index, this.#thread);
      this.putBack(index);
    }
  }

  #stamp(index: number, thread: number): void {
    const at = this.#at + (index << MAPTRACK_SHIFT) + 1;
    Atomics.store(this.#words, at, (this.#words[at]! & ~THREAD_MASK) | thread);
  }

  #refill(): boolean {
    const words = this.#words;
    this.#lock();
    let head = words[Head.MAPTRACK_FREE]!;
    for (let i = 0; i < CHUNK && head >= 0; i++) {
      const next = words[this.#at + (head << MAPTRACK_SHIFT)]!;
      this.#stamp(head, this.#thread);
      this.putBack(head);
      head = next;
    }
    words[Head.MAPTRACK_FREE] = head;
    if (this.#list[FREE]! < 0) {
      const limit = words[Head.MAPTRACK_LIMIT]!;
      const end = Math.min(limit + CHUNK, this.#state.maptrackMax);
      for (let index = end - 1; index >= limit; index--) {
        this.#stamp(index, this.#thread);
        this.putBack(index);
      }
      Atomics.store(words, Head.MAPTRACK_LIMIT, end);
    }
    this.#unlock();
    return this.#list[FREE]! >= 0;
  }

  #giveBack(count: number): void {
    const words = this.#words;
    this.#lock();
    for (let i = 0; i < count && this.#list[FREE]! >= 0; i++) {
      const index = this.take();
      this.#stamp(index, NO_THREAD);
      words[this.#at + (index << MAPTRACK_SHIFT)] = words[Head.MAPTRACK_FREE]!;
      words[Head.MAPTRACK_FREE] = index;
    }
    this.#unlock();
  }

  #lock(): void {
    while (Atomics.compareExchange(this.#words, Head.MAPTRACK_LOCK, 0, 1) !== 0) {
      Atomics.wait(this.#words, Head.MAPTRACK_LOCK, 1, 1);
    }
  }

  #unlock(): void {
    Atomics.store(this.#words, Head.MAPTRACK_LOCK, 0);
  }
}
