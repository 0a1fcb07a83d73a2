/**
 * What the guest finds at each of its frames: RAM, a page of ours laid over a hole (grant frames, shared_info, store
 * and console rings), or nothing. RAM the guest gave back is a hole until it asks for it again.
 */
import type { Place } from '../event-channel/two-level.js';
import { PAGE_SHIFT, PAGE_SIZE, type GuestMemory, type RamWindow } from './guest-memory.js';

export type FrameKind = 'ram' | 'own' | 'hole';

/** Frames per chunk of the bitmap of given-back frames. */
const CHUNK_SHIFT = 15;
const CHUNK_FRAMES = 1 << CHUNK_SHIFT;

export class P2m {
  readonly #memory: GuestMemory;
  readonly #own: RamWindow;
  /** gfn → own page. */
  readonly #overlay = new Map<number, number>();
  readonly #shownAt = new Map<number, number>();
  readonly #released = new Map<number, Uint32Array>();
  /** Frames of RAM that hold a structure of ours (shared_info, grant frames), given back or not. */
  readonly #borrowed = new Set<number>();
  #releasedPages = 0;

  /** @param own all own pages as one window; its `gfn` has no meaning */
  constructor(memory: GuestMemory, own: RamWindow) {
    this.#memory = memory;
    this.#own = own;
  }

  kind(gfn: number): FrameKind {
    if (this.#overlay.has(gfn)) return 'own';
    if (this.#memory.window(gfn) === undefined) return 'hole';
    return this.isReleased(gfn) && !this.#borrowed.has(gfn) ? 'hole' : 'ram';
  }

  /** RAM stands behind this frame, whether or not the guest has given it back. */
  backed(gfn: number): boolean {
    return this.#memory.window(gfn) !== undefined;
  }

  /** The memory of a frame, or undefined for a hole. */
  locate(gfn: number): Place | undefined {
    const page = this.#overlay.get(gfn);
    if (page !== undefined) return this.ownPlace(page);
    const window = this.#memory.window(gfn);
    if (window === undefined || (this.isReleased(gfn) && !this.#borrowed.has(gfn))) return undefined;
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

  /** A structure of ours lives in this frame of RAM from now on; a frame given back is there again meanwhile. */
  borrow(gfn: number): void {
    this.#borrowed.add(gfn);
  }

  /** The structure has moved away. */
  unborrow(gfn: number): void {
    this.#borrowed.delete(gfn);
  }

  /** Where own page `page` is shown. */
  shownAt(page: number): number | undefined {
    return this.#shownAt.get(page);
  }

  /** The frames our pages are shown at. */
  overlays(): IterableIterator<number> {
    return this.#overlay.keys();
  }

  isReleased(gfn: number): boolean {
    const chunk = this.#released.get(gfn >>> CHUNK_SHIFT);
    if (chunk === undefined || gfn > 0xffff_ffff) return false;
    const at = gfn & (CHUNK_FRAMES - 1);
    return (chunk[at >>> 5]! & (1 << (at & 31))) !== 0;
  }

  /** The guest gives a frame of RAM back. The caller has checked that it is RAM. */
  release(gfn: number): void {
    const key = gfn >>> CHUNK_SHIFT;
    let chunk = this.#released.get(key);
    if (chunk === undefined) {
      chunk = new Uint32Array(CHUNK_FRAMES / 32);
      this.#released.set(key, chunk);
    }
    const at = gfn & (CHUNK_FRAMES - 1);
    chunk[at >>> 5]! |= 1 << (at & 31);
    this.#releasedPages++;
  }

  /** A frame of RAM given back before is RAM again, zeroed. The caller has checked `isReleased`. */
  restore(gfn: number): void {
    const at = gfn & (CHUNK_FRAMES - 1);
    this.#released.get(gfn >>> CHUNK_SHIFT)![at >>> 5]! &= ~(1 << (at & 31));
    this.#releasedPages--;
    const { u8, at: start } = this.locate(gfn)!;
    u8.fill(0, start, start + PAGE_SIZE);
  }

  /** Pages of RAM behind the guest, those given back included. */
  get totalPages(): number {
    return this.#memory.windows.reduce((sum, window) => sum + window.pages, 0);
  }

  /** Pages of RAM the guest has. */
  get currentPages(): number {
    return this.totalPages - this.#releasedPages;
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
    this.#released.clear();
    this.#borrowed.clear();
    this.#releasedPages = 0;
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
      each(place, place.at + inPage, done, part);
      done += part;
    }
    return true;
  }
}
