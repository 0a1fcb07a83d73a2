/**
 * Requests whose data cannot go straight to or from the guest's pages: it goes through pages of our own, packed one
 * after the other, copied before a write and after a read. A queue has one only if its target may need it.
 */
import { SECTOR_SHIFT } from '../../shim/abi/io/blkif.js';
import type { PageChanged } from '../../shim/grant-table/foreign.js';
import type { RamWindow } from '../../shim/memory/guest-memory.js';
import type { BouncePool } from './bounce-pool.js';
import type { Records } from './records.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';
import type { RequestCopy } from './request.js';
import { Counter } from './statistics.js';

const PAGE_SHIFT = 12;
const PAGE_SIZE = 1 << PAGE_SHIFT;
const PAGE_WORDS = PAGE_SIZE >>> 2;
/** Words of a sector, as a shift. */
const SECTOR_WORDS_SHIFT = SECTOR_SHIFT - 2;

/** Of `take`: the pages are there; none are free, and a completion will change that; the host has no memory. */
export const Taken = Object.freeze({ PAGES: 0, WAIT: 1, NO_MEMORY: 2 } as const);

export class Bounce {
  /** A request waits in the ring for pages. */
  starved = false;
  /** Pages of a request: how many, and which, from tag * MAX_INDIRECT_SEGMENTS on. */
  private readonly pageCount: Int32Array;
  private readonly page: Int32Array;
  /** The guest's side of it: where each segment is, in words. */
  private readonly segments: Int32Array;
  private readonly window: (RamWindow | undefined)[];
  private readonly word: Int32Array;
  private readonly words: Int32Array;
  private readonly mask: number;
  /** Request and tag whose pages are being handed over. */
  private request: RequestCopy | undefined;
  private tag = 0;

  constructor(
    private readonly pool: BouncePool,
    private readonly records: Records,
    private readonly counters: Float64Array,
    /** Bytes that addresses and lengths are to be multiples of: a power of two, at most a page. */
    alignment: number,
    /** The host has no memory for bounce pages: a request has failed for it. Told once. */
    private readonly noMemory: () => void,
  ) {
    const { count } = records;
    this.pageCount = new Int32Array(count);
    this.page = new Int32Array(count * MAX_INDIRECT_SEGMENTS);
    this.segments = new Int32Array(count);
    this.window = Array.from({ length: count * MAX_INDIRECT_SEGMENTS }, () => undefined);
    this.word = new Int32Array(count * MAX_INDIRECT_SEGMENTS);
    this.words = new Int32Array(count * MAX_INDIRECT_SEGMENTS);
    this.mask = (alignment >>> SECTOR_SHIFT) - 1;
  }

  /** Whether the data of a request cannot go straight to its pages: a segment begins or ends where the target cannot. */
  needed(request: RequestCopy): boolean {
    let bits = 0;
    for (let i = 0; i < request.segments; i++) {
      const range = request.segment[2 * i + 1]!;
      // The end is as good as the length once the beginning is known.
      bits |= (range & 0xff) | (((range >>> 8) & 0xff) + 1);
    }
    return (bits & this.mask) !== 0;
  }

  /** Takes pages for so many sectors, for a request whose pages come next. */
  take(tag: number, request: RequestCopy, sectors: number): number {
    const { pool } = this;
    const pages = ((sectors << SECTOR_SHIFT) + PAGE_SIZE - 1) >>> PAGE_SHIFT;
    if (!pool.allows(pages)) {
      this.starved = true;
      this.counters[Counter.bounce_waits]! += 1;
      return Taken.WAIT;
    }
    if (!pool.open()) {
      this.noMemory();
      return Taken.NO_MEMORY;
    }
    const first = tag * MAX_INDIRECT_SEGMENTS;
    for (let i = 0; i < pages; i++) this.page[first + i] = pool.get();
    this.pageCount[tag] = pages;
    this.segments[tag] = 0;
    this.tag = tag;
    this.request = request;
    this.counters[Counter.bounced]! += 1;
    this.show();
    return Taken.PAGES;
  }

  /** A page of the request being mapped, in order. */
  readonly addPage: PageChanged = (segment, window, offset) => {
    const range = this.request!.segment[2 * segment + 1]!;
    const first = range & 0xff;
    const last = (range >>> 8) & 0xff;
    const at = this.tag * MAX_INDIRECT_SEGMENTS + this.segments[this.tag]!++;
    this.window[at] = window;
    this.word[at] = (offset >>> 2) + (first << SECTOR_WORDS_SHIFT);
    this.words[at] = (last - first + 1) << SECTOR_WORDS_SHIFT;
  };

  /** All pages are there: what goes to the disk is copied, and the record's buffers are ours. */
  begin(tag: number, write: boolean, sectors: number): void {
    if (write) this.copy(tag, false);
    const first = tag * MAX_INDIRECT_SEGMENTS;
    let left = sectors << SECTOR_SHIFT;
    for (let i = 0; i < this.pageCount[tag]!; i++) {
      const length = Math.min(left, PAGE_SIZE);
      this.records.addBuffer(tag, this.pool.address(this.page[first + i]!), length);
      left -= length;
    }
  }

  /** The request is over, or never began: its pages go back. Call it while the guest's pages are still pinned. */
  end(tag: number, toGuest: boolean): void {
    const count = this.pageCount[tag]!;
    if (count === 0) return;
    if (toGuest) this.copy(tag, true);
    const first = tag * MAX_INDIRECT_SEGMENTS;
    for (let i = 0; i < count; i++) this.pool.put(this.page[first + i]!);
    for (let i = 0; i < this.segments[tag]!; i++) this.window[first + i] = undefined;
    this.pageCount[tag] = 0;
    this.starved = false;
    this.show();
  }

  /** Gives pages beyond the limit back to the host. */
  trim(): void {
    if (!this.pool.excess) return;
    this.pool.trim();
    this.show();
  }

  setMax(pages: number): void {
    this.pool.setMax(pages);
    this.starved = false;
    this.show();
  }

  close(): void {
    this.pool.close();
    this.show();
  }

  private show(): void {
    this.counters[Counter.buffer_pages] = this.pool.pages;
    this.counters[Counter.free_buffer_pages] = this.pool.count;
  }

  private copy(tag: number, toGuest: boolean): void {
    const ours = this.pool.words;
    const first = tag * MAX_INDIRECT_SEGMENTS;
    let page = first;
    let within = 0;
    for (let segment = first; segment < first + this.segments[tag]!; segment++) {
      const theirs = this.window[segment]!.i32;
      let word = this.word[segment]!;
      let left = this.words[segment]!;
      while (left > 0) {
        const length = Math.min(left, PAGE_WORDS - within);
        const at = this.page[page]! * PAGE_WORDS + within;
        if (toGuest) for (let i = 0; i < length; i++) theirs[word + i] = ours[at + i]!;
        else for (let i = 0; i < length; i++) ours[at + i] = theirs[word + i]!;
        left -= length;
        word += length;
        within += length;
        if (within === PAGE_WORDS) {
          within = 0;
          page++;
        }
      }
    }
  }
}
