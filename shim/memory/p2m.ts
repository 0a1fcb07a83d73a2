/**
 * What the guest finds at each of its frames: RAM, a page of ours laid over a hole (grant frames, shared_info, store
 * and console rings), or nothing. RAM the guest gave back is a hole until it asks for it again. What is paged out is RAM
 * to everybody who reads and writes here: `read` and `write` wait for it, and are the main thread's.
 */
import { Errno } from '../abi/errno.js';
import type { Place } from '../event-channel/two-level.js';
import { FrameState, type Frames } from './frames.js';
import { PAGE_SHIFT, PAGE_SIZE, type GuestMemory, type RamWindow } from './guest-memory.js';

export type FrameKind = 'ram' | 'own' | 'hole';

/** What a frame is, in full. `mmio`: never memory, the device model answers there. */
export type FrameType = 'ram' | 'unbacked' | 'paging_out' | 'paged' | 'paging_in' | 'hole' | 'overlay' | 'mmio';

const TYPES: readonly FrameType[] = ['ram', 'paging_out', 'paged', 'paging_in', 'unbacked', 'hole'];

export class P2m {
  readonly #memory: GuestMemory;
  readonly #own: RamWindow;
  /** gfn → own page. */
  readonly #overlay = new Map<number, number>();
  readonly #shownAt = new Map<number, number>();
  /**
   * Frames of RAM that hold a structure of ours (shared_info, grant frames). `again`: the guest had given it back;
   * `held`: it has a pin of ours.
   */
  readonly #borrowed = new Map<number, { readonly again: boolean; readonly held: boolean }>();
  /** Frames that stay although nothing of ours was placed there. */
  readonly #kept = new Set<number>();

  /**
   * @param memory with frames
   * @param own all own pages as one window; its `gfn` has no meaning
   */
  constructor(memory: GuestMemory, own: RamWindow) {
    if (memory.frames === null) throw new Error('a p2m without frames');
    this.#memory = memory;
    this.frames = memory.frames;
    this.#own = own;
  }

  readonly frames: Frames;

  /** Looks, and changes nothing: for giving memory back, for an operator. */
  lookupQuery(gfn: number): FrameType {
    if (this.#overlay.has(gfn)) return 'overlay';
    if (this.#memory.window(gfn) === undefined) return 'mmio';
    return TYPES[this.frames.state(gfn)]!;
  }

  /**
   * Looks, and sees to it that the frame is there: 0, or -EAGAIN when its page-in has been started (look again after
   * `Pager.resident`), -EPERM for what is not memory, -EINVAL for a hole (spec A2.11).
   */
  lookupAlloc(gfn: number): number {
    const type = this.lookupQuery(gfn);
    if (type === 'overlay' || type === 'ram' || type === 'unbacked') return 0;
    if (type === 'mmio') return -Errno.EPERM;
    if (type === 'hole') return -Errno.EINVAL;
    const status = this.frames.pin(gfn);
    if (status === 0) this.frames.unpin(gfn);
    return status;
  }

  kind(gfn: number): FrameKind {
    if (this.#overlay.has(gfn)) return 'own';
    if (this.#memory.window(gfn) === undefined) return 'hole';
    return this.#isGone(gfn) ? 'hole' : 'ram';
  }

  /** RAM stands behind this frame, whether or not the guest has given it back. */
  backed(gfn: number): boolean {
    return this.#memory.window(gfn) !== undefined;
  }

  /** The memory of a frame, or undefined for a hole. Not to be touched unless something keeps the frame there. */
  locate(gfn: number): Place | undefined {
    const page = this.#overlay.get(gfn);
    if (page !== undefined) return this.ownPlace(page);
    const window = this.#memory.window(gfn);
    if (window === undefined || this.#isGone(gfn)) return undefined;
    return { u8: window.u8, i32: window.i32, at: (gfn - window.gfn) << PAGE_SHIFT };
  }

  /** The memory of one of our own pages, shown to the guest or not. */
  ownPlace(page: number): Place {
    return { u8: this.#own.u8, i32: this.#own.i32, at: page << PAGE_SHIFT };
  }

  /** Copies from guest-physical memory, own pages included; false, and `into` undefined, if any of it is a hole. */
  read(gpa: number, into: Uint8Array): boolean {
    return this.#span(gpa, into.length, (place, at, done, part) => {
      into.set(place.u8.subarray(at, at + part), done);
    });
  }

  /** Copies to guest-physical memory; false if any of it is a hole, and what precedes the hole may be written. */
  write(gpa: number, from: Uint8Array): boolean {
    return this.#span(gpa, from.length, (place, at, done, part) => {
      place.u8.set(from.subarray(done, done + part), at);
    });
  }

  /** Records that own page `page` is shown at `gfn`. */
  lay(gfn: number, page: number): void {
    this.#overlay.set(gfn, page);
    this.#shownAt.set(page, gfn);
  }

  /** Records that nothing of ours is shown at `gfn` any more; returns the page that was. */
  lift(gfn: number): number | undefined {
    const page = this.#overlay.get(gfn);
    if (page === undefined) return undefined;
    this.#overlay.delete(gfn);
    this.#shownAt.delete(page);
    return page;
  }

  /** The memory of a frame that event delivery writes to from now on: it stays until the machine is reset. */
  locateForGood(gfn: number): Place | undefined {
    const place = this.locate(gfn);
    if (place === undefined || this.#overlay.has(gfn) || this.#kept.has(gfn)) return place;
    if (!this.frames.hold(gfn)) return undefined;
    this.#kept.add(gfn);
    return place;
  }

  /** A structure of ours lives in this frame of RAM from now on; a frame given back is there again meanwhile. */
  borrow(gfn: number): void {
    if (this.#borrowed.has(gfn)) return;
    const again = this.frames.restore(gfn);
    this.#borrowed.set(gfn, { again, held: this.frames.hold(gfn) });
  }

  /** The structure has moved away. */
  unborrow(gfn: number): void {
    const borrowed = this.#borrowed.get(gfn);
    if (borrowed === undefined) return;
    this.#borrowed.delete(gfn);
    if (borrowed.held) this.frames.letGo(gfn);
    if (borrowed.again) this.frames.release(gfn);
  }

  /** Where own page `page` is shown. */
  shownAt(page: number): number | undefined {
    return this.#shownAt.get(page);
  }

  /** The frames our pages are shown at. */
  overlays(): IterableIterator<number> {
    return this.#overlay.keys();
  }

  #isGone(gfn: number): boolean {
    return this.frames.state(gfn) === FrameState.RELEASED && !this.#borrowed.has(gfn);
  }

  /** Pages of RAM behind the guest, those given back included. */
  get totalPages(): number {
    return this.#memory.windows.reduce((sum, window) => sum + window.pages, 0);
  }

  /** Pages of RAM the guest has. */
  get currentPages(): number {
    return this.totalPages - this.frames.released;
  }

  /** The highest frame number with anything at it. */
  get maxGfn(): number {
    let max = 0;
    for (const window of this.#memory.windows) max = Math.max(max, window.gfn + window.pages - 1);
    for (const gfn of this.#overlay.keys()) max = Math.max(max, gfn);
    return max;
  }

  /** A fresh machine: all RAM is there. Overlays are the caller's to lift. */
  reset(): void {
    for (const gfn of [...this.#borrowed.keys()]) this.unborrow(gfn);
    for (const gfn of this.#kept) this.frames.letGo(gfn);
    this.#kept.clear();
    this.frames.restoreAll();
  }

  #span(
    gpa: number,
    length: number,
    each: (place: Place, at: number, done: number, part: number) => void,
  ): boolean {
    if (!(gpa >= 0) || !Number.isSafeInteger(gpa + length)) return false;
    for (let done = 0; done < length; ) {
      const gfn = Math.floor((gpa + done) / PAGE_SIZE);
      const place = this.locate(gfn);
      if (place === undefined) return false;
      const inPage = gpa + done - gfn * PAGE_SIZE;
      const part = Math.min(PAGE_SIZE - inPage, length - done);
      const ours = this.#overlay.has(gfn);
      if (!ours && !this.frames.use(gfn)) return false;
      each(place, place.at + inPage, done, part);
      if (!ours) this.frames.used(gfn);
      done += part;
    }
    return true;
  }
}
