/**
 * Where this thread finds the pages of the table: the grant frames themselves (own pages, or guest RAM where the guest
 * placed them inside it) and the frames that entries name.
 */
import { PAGE_SIZE, type GuestMemory, type RamWindow } from '../memory/guest-memory.js';
import { Gntst } from '../abi/grant-table.js';
import { entry2InFrame, STATUS_SHIFT, statusInFrame, statusShift, V2_ENTRIES_SHIFT } from './entry-v2.js';
import type { QuickGrants } from './quick-grants.js';
import type { Residency } from './residency.js';
import { ENTRIES_PER_FRAME, ENTRIES_SHIFT, Head, PLACE_WORDS, PlaceKind, type GrantState } from './state.js';

export const WORDS_PER_PAGE_SHIFT = 10;
const WORDS_PER_PAGE = 1 << WORDS_PER_PAGE_SHIFT;

/** What stands in for a grant frame whose place this thread cannot reach: no entry of it permits anything. */
const NOWHERE = new Int32Array(WORDS_PER_PAGE);

/** Where a grant frame is. */
export type FramePlace = { readonly own: number } | { readonly gfn: number };

export class TableFrames {
  readonly #state: GrantState;
  /** The entries are of version 2. */
  version2 = false;
  /** Per frame, grant frames first and then status frames: the words it is in and the word index of its start. */
  readonly words: Int32Array[];
  readonly base: Int32Array;
  #generation = 0;
  #quick: QuickGrants | null = null;
  /** null where no frame is ever taken away. */
  residency: Residency | null = null;

  constructor(
    state: GrantState,
    readonly memory: GuestMemory,
    /** All own pages as one window; its `gfn` has no meaning. */
    readonly own: RamWindow,
  ) {
    this.#state = state;
    const all = state.maxFrames + state.maxStatusFrames;
    this.words = Array.from({ length: all }, () => NOWHERE);
    this.base = new Int32Array(all);
    this.refresh();
  }

  /** Follows frames that moved. Called at the start of every section in the table. */
  refresh(): void {
    const generation = this.#state.words[Head.GENERATION]!;
    if (generation !== this.#generation) this.#reload(generation);
  }

  /** Looks every frame up anew: after a change of the memory layout of this thread. */
  reload(): void {
    this.#reload(Atomics.load(this.#state.words, Head.GENERATION));
  }

  #reload(generation: number): void {
    const quick = this.#quick;
    quick?.setWindows(this.memory.windows);
    for (let frame = 0; frame < this.words.length; frame++) {
      const place = this.place(frame);
      const window = 'own' in place ? this.own : this.memory.window(place.gfn);
      const page = 'own' in place ? place.own : place.gfn - (window?.gfn ?? 0);
      this.words[frame] = window?.i32 ?? NOWHERE;
      this.base[frame] = window === undefined ? 0 : page << WORDS_PER_PAGE_SHIFT;
      // Status frames, which are numbered after the others, are nothing to native code.
      if (frame < this.#state.maxFrames) quick?.setFrame(frame, window === undefined ? 0 : window.hva + page * PAGE_SIZE);
    }
    this.version2 = this.#state.words[Head.VERSION] === 2;
    this.#generation = generation;
  }

  /** From now on `quick` knows where everything is. */
  serve(quick: QuickGrants): void {
    this.#quick = quick;
    this.reload();
  }

  place(frame: number): FramePlace {
    const { words, placesAt } = this.#state;
    const at = placesAt + frame * PLACE_WORDS;
    return words[at] === PlaceKind.OWN ? { own: words[at + 1]! } : { gfn: words[at + 1]! >>> 0 };
  }

  /** Exclusive section only. */
  setPlace(frame: number, place: FramePlace): void {
    const { words, placesAt } = this.#state;
    const at = placesAt + frame * PLACE_WORDS;
    words[at] = 'own' in place ? PlaceKind.OWN : PlaceKind.RAM;
    words[at + 1] = 'own' in place ? place.own : place.gfn;
    Atomics.add(words, Head.GENERATION, 1);
    this.refresh();
  }

  /** The words of a whole grant frame. */
  frame(frame: number): Int32Array {
    const base = this.base[frame]!;
    return this.words[frame]!.subarray(base, base + WORDS_PER_PAGE);
  }

  /** Exchanges two entries; exclusive section only. */
  swapEntries(a: number, b: number): void {
    if (this.version2) {
      this.#swapEntries2(a, b);
      return;
    }
    const wordsA = this.words[a >>> ENTRIES_SHIFT]!;
    const wordsB = this.words[b >>> ENTRIES_SHIFT]!;
    const atA = this.entryAt(a);
    const atB = this.entryAt(b);
    for (let word = 0; word < 2; word++) {
      const kept = Atomics.load(wordsA, atA + word);
      Atomics.store(wordsA, atA + word, Atomics.load(wordsB, atB + word));
      Atomics.store(wordsB, atB + word, kept);
    }
  }

  #swapEntries2(a: number, b: number): void {
    const swap = (wordsA: Int32Array, atA: number, wordsB: Int32Array, atB: number): void => {
      const kept = Atomics.load(wordsA, atA);
      Atomics.store(wordsA, atA, Atomics.load(wordsB, atB));
      Atomics.store(wordsB, atB, kept);
    };
    const frameA = this.words[a >>> V2_ENTRIES_SHIFT]!;
    const frameB = this.words[b >>> V2_ENTRIES_SHIFT]!;
    for (let word = 0; word < 4; word++) swap(frameA, this.entry2At(a) + word, frameB, this.entry2At(b) + word);
    const status = this.status(a);
    this.setStatus(a, this.status(b));
    this.setStatus(b, status);
  }

  /** Word index of a version 2 entry within `words[ref >>> V2_ENTRIES_SHIFT]`. */
  entry2At(ref: number): number {
    return this.base[ref >>> V2_ENTRIES_SHIFT]! + entry2InFrame(ref);
  }

  /** The status of a version 2 entry. */
  status(ref: number): number {
    const frame = this.#statusFrame(ref);
    return (Atomics.load(this.words[frame]!, this.base[frame]! + statusInFrame(ref)) >>> statusShift(ref)) & 0xffff;
  }

  orStatus(ref: number, bits: number): void {
    const frame = this.#statusFrame(ref);
    Atomics.or(this.words[frame]!, this.base[frame]! + statusInFrame(ref), bits << statusShift(ref));
  }

  clearStatus(ref: number, bits: number): void {
    const frame = this.#statusFrame(ref);
    Atomics.and(this.words[frame]!, this.base[frame]! + statusInFrame(ref), ~(bits << statusShift(ref)));
  }

  setStatus(ref: number, bits: number): void {
    this.clearStatus(ref, 0xffff);
    this.orStatus(ref, bits);
  }

  #statusFrame(ref: number): number {
    return this.#state.maxFrames + (ref >>> STATUS_SHIFT);
  }

  /** Word index of an entry within `words[ref >>> ENTRIES_SHIFT]`. */
  entryAt(ref: number): number {
    return this.base[ref >>> ENTRIES_SHIFT]! + ((ref & (ENTRIES_PER_FRAME - 1)) << 1);
  }

  /** Pins the frame an entry names: okay, bad_page (no RAM and no page of ours there) or eagain. */
  pin(gfn: number): number {
    if (this.memory.window(gfn) === undefined) return this.ownPageAt(gfn) < 0 ? Gntst.bad_page : Gntst.okay;
    return this.residency === null ? Gntst.okay : this.residency.pin(gfn);
  }

  unpin(gfn: number): void {
    if (this.residency !== null && this.memory.window(gfn) !== undefined) this.residency.unpin(gfn);
  }

  /** The own page shown to the guest at a frame, or -1. Searched only for frames that are not RAM. */
  ownPageAt(gfn: number): number {
    const { words, ownFramesAt, ownPages } = this.#state;
    if (!(gfn >= 0 && gfn < 0xffff_ffff)) return -1;
    const word = gfn | 0;
    for (let page = 0; page < ownPages; page++) {
      if (Atomics.load(words, ownFramesAt + page) === word) return page;
    }
    return -1;
  }

  /** The frame an own page is shown at, or -1. */
  frameOfOwnPage(page: number): number {
    const gfn = Atomics.load(this.#state.words, this.#state.ownFramesAt + page);
    return gfn === -1 ? -1 : gfn >>> 0;
  }

  setOwnPage(page: number, gfn: number | undefined): void {
    Atomics.store(this.#state.words, this.#state.ownFramesAt + page, gfn ?? -1);
  }
}
