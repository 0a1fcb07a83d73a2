/** The arguments of quick_grants.cc: what it needs to know of the table, of guest memory, and of the batch at hand. */
import { native } from '../../kvm/native.js';
import type { NativeQuickGrants } from '../../kvm/native.js';
import type { RamWindow } from '../memory/guest-memory.js';
import type { Maptrack } from './maptrack.js';
import type { HandleBatch, PageBatch } from './page-batch.js';
import type { GrantState } from './state.js';

/** Words of the call. */
const Call = Object.freeze({
  OPS_LO: 0, OPS_HI: 1, COUNT: 2, LEFT: 3, FREE: 4, MINE: 6, THREAD: 7, ACTIVE_AT: 8, MAPTRACK_AT: 9, MAX_REFS: 10, RANGES: 11,
  RANGE: 16, FRAME: 48,
} as const);
const MAX_RANGES = 8;
const MAX_FRAMES = 64;

export class QuickGrants {
  readonly #words: Int32Array;
  readonly #map: () => void;
  readonly #unmap: () => void;
  readonly #native: NativeQuickGrants;

  /** @param mine state word of an entry of this thread without pins (active.ts) */
  constructor(state: GrantState, maptrack: Maptrack, mine: number) {
    this.#native = new native.QuickGrants(state.words);
    const words = new Int32Array(this.#native.call);
    this.#words = words;
    this.#map = this.#native.map;
    this.#unmap = this.#native.unmap;
    maptrack.keepListIn(words.subarray(Call.FREE, Call.FREE + 2));
    words[Call.MINE] = mine;
    words[Call.THREAD] = maptrack.threadBits;
    words[Call.ACTIVE_AT] = state.activeAt;
    words[Call.MAPTRACK_AT] = state.maptrackAt;
    words[Call.MAX_REFS] = state.maxRefs;
  }

  /** Where guest RAM is. Ranges beyond the first eight are left to others. */
  setWindows(windows: readonly RamWindow[]): void {
    const words = this.#words;
    const count = Math.min(windows.length, MAX_RANGES);
    for (let i = 0; i < count; i++) {
      const { gfn, pages, hva } = windows[i]!;
      const at = Call.RANGE + 4 * i;
      words[at] = gfn;
      words[at + 1] = pages;
      words[at + 2] = hva | 0;
      words[at + 3] = Math.floor(hva / 0x1_0000_0000);
    }
    words[Call.RANGES] = count;
  }

  /** Where a grant frame is; 0 = out of reach. */
  setFrame(frame: number, hva: number): void {
    if (frame >= MAX_FRAMES) return;
    const at = Call.FRAME + 2 * frame;
    this.#words[at] = hva | 0;
    this.#words[at + 1] = Math.floor(hva / 0x1_0000_0000);
  }

  /** Maps what it can of a batch, the status of the rest being LEFT_ALONE; returns how many that are. */
  map(batch: PageBatch): number {
    const words = this.#words;
    words[Call.OPS_LO] = batch.lo;
    words[Call.OPS_HI] = batch.hi;
    words[Call.COUNT] = batch.count;
    this.#map();
    return words[Call.LEFT]!;
  }

  /** Unmaps what it can, and puts -1 in those handles' place; returns how many are left. */
  unmap(batch: HandleBatch): number {
    const words = this.#words;
    words[Call.OPS_LO] = batch.lo;
    words[Call.OPS_HI] = batch.hi;
    words[Call.COUNT] = batch.count;
    this.#unmap();
    return words[Call.LEFT]!;
  }
}
