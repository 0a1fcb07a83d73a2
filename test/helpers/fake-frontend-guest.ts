/** A guest without a machine: RAM in a memfd, a grant table, and the hands a frontend has: pages and grant entries. */
import { native } from '../../kvm/native.js';
import { createGrantState } from '../../shim/grant-table/state.js';
import type { GrantStats } from '../../shim/grant-table/table.js';
import { attachGuest } from '../../shim/memory/attach.js';
import type { AttachedGuest, GuestHandles } from '../../shim/memory/attach.js';
import type { FrameHandles } from '../../shim/memory/frames.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';

export const GTF_PERMIT = 1;
export const GTF_READONLY = 4;
export const GTF_READING = 8;
export const GTF_WRITING = 16;

const GRANT_FRAMES = 16;
const ENTRIES = GRANT_FRAMES * 512;
/** Grant references below this one belong to the toolstack. */
const FIRST_REF = 8;
/** First frame of the RAM above 4 GiB. */
export const HIGH_GFN = 0x10_0000;

export interface GuestPage {
  readonly gfn: number;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
}

export class FakeGuest {
  readonly handles: GuestHandles;
  readonly attached: AttachedGuest;
  readonly #fds: number[] = [];
  readonly #freePages: number[];
  readonly #freeRefs: number[];

  /** RAM from frame 0 on, and a second piece above 4 GiB, both of `pages` pages. */
  constructor(
    pages = 4096,
    readonly domid = 1,
    /** Words for the frames, where some are to be taken away. The caller's to close. */
    frames?: FrameHandles,
  ) {
    const ram = native.memfd('guest-ram', 2 * pages * PAGE_SIZE);
    const own = native.memfd('own-pages', GRANT_FRAMES * PAGE_SIZE);
    this.#fds.push(ram, own);
    this.handles = {
      ram: [
        { fd: ram, offset: 0, gfn: 0, pages },
        { fd: ram, offset: pages * PAGE_SIZE, gfn: HIGH_GFN, pages },
      ],
      own: { fd: own, pages: GRANT_FRAMES },
      grants: createGrantState({ maxFrames: GRANT_FRAMES, ownPages: GRANT_FRAMES, firstOwnPage: 0 }),
      domid,
      ...(frames === undefined ? {} : { frames }),
    };
    this.attached = attachGuest(this.handles);
    this.attached.grantTable.growTo(GRANT_FRAMES);
    // Low and high frames by turns, so that every test crosses the 4 GiB border.
    this.#freePages = Array.from({ length: 2 * pages }, (_, i) => (i % 2 === 0 ? i / 2 : HIGH_GFN + (i - 1) / 2)).reverse();
    this.#freeRefs = Array.from({ length: ENTRIES - FIRST_REF }, (_, i) => ENTRIES - 1 - i);
  }

  page(): GuestPage {
    const gfn = this.#freePages.pop();
    if (gfn === undefined) throw new Error('out of guest pages');
    return this.pageAt(gfn);
  }

  pageAt(gfn: number): GuestPage {
    const window = this.attached.memory.window(gfn);
    if (window === undefined) throw new Error(`no RAM at frame ${gfn}`);
    const start = (gfn - window.gfn) * PAGE_SIZE;
    return {
      gfn,
      u8: window.u8.subarray(start, start + PAGE_SIZE),
      i32: window.i32.subarray(start / 4, (start + PAGE_SIZE) / 4),
    };
  }

  freePage(page: GuestPage): void {
    this.#freePages.push(page.gfn);
  }

  /** Writes an entry as a guest does: frame first, then domain and flags. */
  grant(gfn: number, readonly = false): number {
    const ref = this.#freeRefs.pop();
    if (ref === undefined) throw new Error('out of grant references');
    this.setEntry(ref, gfn, readonly ? GTF_PERMIT | GTF_READONLY : GTF_PERMIT);
    return ref;
  }

  setEntry(ref: number, gfn: number, flags: number, backend = 0): void {
    const words = this.#words;
    Atomics.store(words, 2 * ref + 1, gfn);
    Atomics.store(words, 2 * ref, (backend << 16) | flags);
  }

  /** Flags of an entry as they are now. */
  flags(ref: number): number {
    return Atomics.load(this.#words, 2 * ref) & 0xffff;
  }

  /** Takes a grant back; false, and nothing done, while the backend uses it. */
  end(ref: number): boolean {
    if ((this.flags(ref) & (GTF_READING | GTF_WRITING)) !== 0) return false;
    Atomics.store(this.#words, 2 * ref, 0);
    this.#freeRefs.push(ref);
    return true;
  }

  stats(): GrantStats {
    return this.attached.grantTable.stats();
  }

  close(): void {
    this.attached.detach();
    for (const fd of this.#fds.splice(0)) native.closeFd(fd);
  }

  get #words(): Int32Array {
    return this.attached.own.i32;
  }
}
