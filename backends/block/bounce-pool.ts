/**
 * Pages of our own for data that cannot go straight to or from the guest's (spec A4.1, A4.2). Address space for all of
 * them is taken at the first use; a page costs memory from when it is used until it is given back to the host.
 */
import type { Arena } from '../../shim/io/memory.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';

/** Free pages kept, unless the operator says otherwise (Linux's max_buffer_pages). */
export const MAX_BUFFER_PAGES = 1024;
/** Largest value that is accepted for it. */
export const MOST_BUFFER_PAGES = 2 ** 31;
/** Pages given back to the host at a time. */
const FREE_BATCH = 10;
const PAGE_SIZE = 4096;

export class BouncePool {
  /** Pages that have memory: free and in use. */
  pages = 0;
  /** Free pages: as many as there are in the list. */
  count = 0;
  private readonly list: Int32Array;
  /** Pages without memory. */
  private readonly bare: Int32Array;
  private bareCount: number;
  private arena: Arena | undefined;

  constructor(
    /** Pages there can ever be. */
    readonly capacity: number,
    private max: number,
    /** Bytes of address space. @throws Error where the host has none */
    private readonly reserve: (bytes: number) => Arena,
  ) {
    this.list = new Int32Array(capacity);
    this.bare = Int32Array.from({ length: capacity }, (_, page) => capacity - 1 - page);
    this.bareCount = capacity;
  }

  /** Pages, by word. Only of pages that `get` gave. */
  get words(): Int32Array {
    return this.arena!.i32;
  }

  /** Host address of a page. */
  address(page: number): number {
    return this.arena!.hi * 0x1_0000_0000 + (this.arena!.lo >>> 0) + page * PAGE_SIZE;
  }

  /** Whether `wanted` more pages (one request) may be used now. One request always may, whatever the limit. */
  allows(wanted: number): boolean {
    return this.pages - this.count + wanted <= Math.max(this.max, MAX_INDIRECT_SEGMENTS);
  }

  /** Makes sure there is address space; false if the host has none. */
  open(): boolean {
    if (this.arena !== undefined) return true;
    try {
      this.arena = this.reserve(this.capacity * PAGE_SIZE);
      return true;
    } catch {
      return false;
    }
  }

  /** A page; the caller has seen that it is allowed, and opened the pool. */
  get(): number {
    if (this.count > 0) return this.list[--this.count]!;
    this.pages++;
    return this.bare[--this.bareCount]!;
  }

  put(page: number): void {
    this.list[this.count++] = page;
  }

  /** How many free pages are kept from now on. */
  setMax(max: number): void {
    this.max = max;
    this.trim();
  }

  /** Whether more pages are free than are to be kept. */
  get excess(): boolean {
    return this.count > this.max;
  }

  trim(): void {
    this.shrink(this.max);
  }

  /** Gives free pages back to the host, a batch at a time, until at most `keep` are left. */
  shrink(keep: number): void {
    while (this.count > keep) {
      for (let batch = Math.min(FREE_BATCH, this.count - keep); batch > 0; batch--) {
        const page = this.list[--this.count]!;
        this.arena!.discard(page * PAGE_SIZE, PAGE_SIZE);
        this.bare[this.bareCount++] = page;
        this.pages--;
      }
    }
  }

  /** Gives everything back. No page is in use. */
  close(): void {
    this.shrink(0);
    this.arena?.free();
    this.arena = undefined;
  }
}
