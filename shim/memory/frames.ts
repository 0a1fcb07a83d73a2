/**
 * The state of every guest frame and how many pins it has, in one word per frame shared by all threads and the pager
 * (kvm/core/frames.h). Words change only by compare-and-exchange: a pin and an eviction of one frame exclude each other
 * without a lock. Nothing here touches a page; `wait` waits, and so do `hold` and `use`, the main thread's. Plain loads
 * in hot paths for the reason given in shim/grant-table/active.ts: a change is a compare-and-exchange in any case.
 */
import { native } from '../../kvm/native.js';
import type { RamRange } from '../../kvm/bridge.js';
import { Errno } from '../abi/errno.js';
import { punchHole } from '../io/block-device.js';
import { PAGE_SIZE } from './guest-memory.js';
import { countFrames, monotonicMs, readStats, type FrameCensus, type PagingStats } from './paging-stats.js';

/** FrameState of kvm/core/frames.h. */
export const FrameState = Object.freeze({
  RAM: 0,
  PAGING_OUT: 1,
  PAGED: 2,
  PAGING_IN: 3,
  /** Never used: a page of zeros when touched. */
  UNBACKED: 4,
  /** Given back by the guest. */
  RELEASED: 5,
} as const);

const STATE = 0xf;
const REFERENCED = 0x10;
const DIRTY = 0x20;
const PIN_SHIFT = 8;
const PIN = 1 << PIN_SHIFT;

const Head = native.frameHeader;
/** How long the main thread waits for a page of a hypercall's own argument, ms. */
const PATIENCE = 10_000;
const WAIT_SLICE = 100;

/** What a thread needs to share the words. Structured-clonable. */
export interface FrameHandles {
  readonly fd: number;
  /** Frames 0 … frames - 1 have a word; those beyond are RAM that is never taken away. */
  readonly frames: number;
  /** eventfd that wakes the pager. */
  readonly bell: number;
}

/** Words for `frames` frames, all RAM without pins. The caller closes both descriptors. */
export function createFrames(frames: number): FrameHandles {
  return { fd: native.memfd('xenshim-frames', (Head.WORDS + frames) * 4), frames, bell: native.eventfd() };
}

export class Frames {
  readonly #buffer: ArrayBuffer;
  readonly #words: Int32Array;
  readonly #mapping: { hva: number; length: number };
  readonly #count: number;
  readonly #bell: number;
  #ram: readonly RamRange[] = [];

  constructor(handles: FrameHandles) {
    const length = (Head.WORDS + handles.frames) * 4;
    const { hva, buffer } = native.mapShared(handles.fd, 0, length, 0);
    this.#mapping = { hva, length };
    this.#buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#count = handles.frames;
    this.#bell = handles.bell;
  }

  /** Where RAM is, for giving memory back to the host. */
  layout(ram: readonly RamRange[]): void {
    this.#ram = ram;
  }

  unmap(): void {
    native.unmap(this.#mapping.hva, this.#mapping.length);
  }

  /** Pins are counted: frames may be taken away. Before, `pin` and `unpin` do nothing. */
  get counting(): boolean {
    return Atomics.load(this.#words, Head.counting) !== 0;
  }

  /** With nobody else pinning: `pinned` are the pins taken so far, one entry each. */
  count(pinned: Iterable<number>): void {
    if (this.counting) return;
    for (const gfn of pinned) if (this.#has(gfn)) Atomics.add(this.#words, Head.WORDS + gfn, PIN);
    Atomics.store(this.#words, Head.counting, 1);
  }

  /** A pager looks after this guest. */
  get paging(): boolean {
    return Atomics.load(this.#words, Head.max_resident) !== 0;
  }

  state(gfn: number): number {
    return this.#has(gfn) ? Atomics.load(this.#words, Head.WORDS + gfn) & STATE : FrameState.RAM;
  }

  pins(gfn: number): number {
    return this.#has(gfn) ? Atomics.load(this.#words, Head.WORDS + gfn) >>> PIN_SHIFT : 0;
  }

  /**
   * Pins a frame of RAM: it stays until `unpin`. Hot.
   * @returns 0; -EAGAIN: not there, its page-in has been asked for; -EINVAL: given back by the guest
   */
  pin(gfn: number): number {
    return this.#words[Head.counting] === 0 ? 0 : this.#take(gfn);
  }

  unpin(gfn: number): void {
    if (this.#words[Head.counting] !== 0) this.#drop(gfn);
  }

  /** Neither pins nor writes are recorded: `pin`, `unpin` and `wrote` do nothing. */
  get idle(): boolean {
    return this.#words[Head.counting] === 0 && this.#words[Head.tracking] === 0;
  }

  /** Records that a backend has written a pinned frame. */
  wrote(gfn: number): void {
    if (this.#words[Head.tracking] !== 0 && this.#has(gfn)) Atomics.or(this.#words, Head.WORDS + gfn, DIRTY);
  }

  /** Main thread: pins for long, counted or not, waiting for the page; false if there is none. */
  hold(gfn: number): boolean {
    return this.#takeWaiting(gfn) === 0;
  }

  /** Ends a hold. */
  letGo(gfn: number): void {
    this.#drop(gfn);
  }

  /** Main thread: keeps a frame there for a short access of its own, waiting for the page if it must. */
  use(gfn: number): boolean {
    return !this.paging || this.#takeWaiting(gfn) === 0;
  }

  /** Ends a use. */
  used(gfn: number): void {
    if (this.paging) this.#drop(gfn);
  }

  /** Asks for a frame that is paged out; one request however many ask. 0, or -EBUSY when the pager's ring is full. */
  request(gfn: number): number {
    const words = this.#words;
    const at = Head.WORDS + gfn;
    for (;;) {
      const seen = Atomics.load(words, at);
      if ((seen & STATE) !== FrameState.PAGED) return 0;
      const asked = (seen & ~STATE) | FrameState.PAGING_IN;
      if (Atomics.compareExchange(words, at, seen, asked) !== seen) continue;
      // Only now that a request will be sent a slot is claimed (spec A2.8).
      if (this.#send(gfn)) return 0;
      Atomics.add(words, Head.refused, 1);
      Atomics.compareExchange(words, at, asked, seen);
      return -Errno.EBUSY;
    }
  }

  #send(gfn: number): boolean {
    const words = this.#words;
    for (;;) {
      const tail = Atomics.load(words, Head.tail);
      if (((tail - Atomics.load(words, Head.head)) >>> 0) >= Head.RING) return false;
      if (Atomics.compareExchange(words, Head.tail, tail, (tail + 1) | 0) !== tail) continue;
      Atomics.store(words, Head.asked + (tail & (Head.RING - 1)), monotonicMs() | 0);
      Atomics.store(words, Head.ring + (tail & (Head.RING - 1)), gfn + 1);
      Atomics.add(words, Head.requests, 1);
      native.eventfdSignal(this.#bell);
      return true;
    }
  }

  /** Sleeps until a frame that was asked for is there, at most `ms`. The thread does nothing else meanwhile. */
  wait(gfn: number, ms: number): void {
    const until = performance.now() + ms;
    for (;;) {
      const seen = this.#has(gfn) ? Atomics.load(this.#words, Head.WORDS + gfn) : 0;
      const left = until - performance.now();
      const state = seen & STATE;
      if (left <= 0 || (state !== FrameState.PAGED && state !== FrameState.PAGING_IN)) return;
      native.futexWait(this.#buffer, (Head.WORDS + gfn) * 4, seen, Math.ceil(left));
    }
  }

  /** Pins, or says why not. */
  #take(gfn: number): number {
    if (!this.#has(gfn)) return 0;
    const words = this.#words;
    const at = Head.WORDS + gfn;
    for (;;) {
      const seen = words[at]!;
      const state = seen & STATE;
      if (state === FrameState.RAM || state === FrameState.PAGING_OUT || state === FrameState.UNBACKED) {
        // Of a frame on its way out this cancels the eviction; one without a page gets it when it is touched.
        const next = ((seen & ~STATE) | REFERENCED) + PIN;
        if (Atomics.compareExchange(words, at, seen, next) !== seen) continue;
        if (state === FrameState.UNBACKED) this.#grown();
        return 0;
      }
      if (state === FrameState.RELEASED) return -Errno.EINVAL;
      if (state === FrameState.PAGED) this.request(gfn);
      Atomics.add(words, Head.eagain, 1);
      return -Errno.EAGAIN;
    }
  }

  /** One more frame is there: the pager may have to take another. */
  #grown(): void {
    const words = this.#words;
    const resident = Atomics.add(words, Head.resident, 1);
    if (resident < Atomics.load(words, Head.max_resident) || Atomics.load(words, Head.idle) === 0) return;
    native.eventfdSignal(this.#bell);
  }

  #takeWaiting(gfn: number): number {
    const deadline = performance.now() + PATIENCE;
    for (;;) {
      const status = this.#take(gfn);
      if (status !== -Errno.EAGAIN) return status;
      const seen = Atomics.load(this.#words, Head.WORDS + gfn);
      const gone = Atomics.load(this.#words, Head.failed) !== 0 || !this.paging || performance.now() > deadline;
      if (gone) return status;
      // The pager is a thread of its own, so that waiting here keeps nobody from ending the wait.
      if ((seen & STATE) === FrameState.PAGING_IN) {
        native.futexWait(this.#buffer, (Head.WORDS + gfn) * 4, seen, WAIT_SLICE);
      }
    }
  }

  #drop(gfn: number): void {
    if (!this.#has(gfn)) return;
    const words = this.#words;
    const at = Head.WORDS + gfn;
    for (;;) {
      const seen = words[at]!;
      if (seen >>> PIN_SHIFT === 0) return;
      // The last pin of a frame given back: before it goes nobody can ask for the frame again.
      if ((seen & STATE) === FrameState.RELEASED && seen >>> PIN_SHIFT === 1) this.#punch(gfn);
      if (Atomics.compareExchange(words, at, seen, seen - PIN) === seen) return;
    }
  }

  /**
   * The guest gives a frame back, wherever it is; its memory goes to the host at once, or with its last pin (spec
   * A2.2, A2.10). The caller has seen to it that pins are counted.
   */
  release(gfn: number): void {
    if (!this.#has(gfn)) return;
    const words = this.#words;
    const at = Head.WORDS + gfn;
    for (;;) {
      const seen = Atomics.load(words, at);
      const state = seen & STATE;
      if (state === FrameState.RELEASED) return;
      const next = (seen & ~(STATE | DIRTY | REFERENCED)) | FrameState.RELEASED;
      if (Atomics.compareExchange(words, at, seen, next) !== seen) continue;
      Atomics.add(words, Head.released, 1);
      if (this.paging && (state === FrameState.RAM || state === FrameState.PAGING_OUT)) {
        Atomics.sub(words, Head.resident, 1);
      }
      if (seen >>> PIN_SHIFT === 0 && state !== FrameState.PAGED && state !== FrameState.UNBACKED) this.#punch(gfn);
      return;
    }
  }

  /** A frame given back is memory again, all zero; false while I/O still uses the old page, or if it was not given back. */
  restore(gfn: number): boolean {
    if (!this.#has(gfn)) return false;
    const words = this.#words;
    const at = Head.WORDS + gfn;
    const seen = Atomics.load(words, at);
    if (seen !== FrameState.RELEASED) return false;
    // The guest may have touched the hole since.
    this.#punch(gfn);
    Atomics.sub(words, Head.released, 1);
    Atomics.store(words, at, this.paging ? FrameState.UNBACKED : FrameState.RAM);
    return true;
  }

  /** Nothing is given back any more: a fresh machine. */
  restoreAll(): void {
    for (let gfn = 0; gfn < this.#count && this.released > 0; gfn++) this.restore(gfn);
  }

  /** Frames given back by the guest. */
  get released(): number {
    return Atomics.load(this.#words, Head.released);
  }

  /** Backends' writes are recorded from now on, or no more. */
  trackDirty(on: boolean): void {
    Atomics.store(this.#words, Head.tracking, on ? 1 : 0);
  }

  /** Frames of a range written by backends since the last call; what is pinned for writing is the caller's to add. */
  takeDirty(gfn: number, pages: number): number[] {
    const dirty: number[] = [];
    for (let at = gfn; at < Math.min(gfn + pages, this.#count); at++) {
      if ((Atomics.load(this.#words, Head.WORDS + at) & DIRTY) === 0) continue;
      Atomics.and(this.#words, Head.WORDS + at, ~DIRTY);
      dirty.push(at);
    }
    return dirty;
  }

  stats(): PagingStats {
    return readStats(this.#words);
  }

  /** The frame the pager is bringing in, or undefined. */
  get serving(): number | undefined {
    const word = Atomics.load(this.#words, Head.serving) >>> 0;
    return word === 0 ? undefined : word - 1;
  }

  /** Sets how many frames may be there, at least one; only with a pager. */
  limit(pages: number): void {
    Atomics.store(this.#words, Head.max_resident, Math.max(1, pages));
    native.eventfdSignal(this.#bell);
  }

  /** Counts the frames of these ranges. For people: it looks at every word. */
  census(ranges: readonly { readonly gfn: number; readonly pages: number }[]): FrameCensus {
    return countFrames(this.#words, this.#count, ranges);
  }

  /** Errno the pager ended with and the frame it was about, or undefined. */
  get failed(): { readonly errno: number; readonly gfn: number } | undefined {
    const errno = Atomics.load(this.#words, Head.failed);
    return errno === 0 ? undefined : { errno, gfn: Atomics.load(this.#words, Head.failed_gfn) >>> 0 };
  }

  /** Errno of the page file while the guest waits for room in it, else 0. */
  get blocked(): number {
    return Atomics.load(this.#words, Head.blocked);
  }

  #has(gfn: number): boolean {
    return gfn >= 0 && gfn < this.#count;
  }

  #punch(gfn: number): void {
    for (const range of this.#ram) {
      if (gfn < range.gfn || gfn >= range.gfn + range.pages) continue;
      punchHole(range.fd, range.offset + (gfn - range.gfn) * PAGE_SIZE, PAGE_SIZE);
      return;
    }
  }
}
