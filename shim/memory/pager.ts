/**
 * The pager as the shim sees it: started on a guest whose QEMU has its RAM watched, told what to evict, asked for pages.
 * The work is done by a native thread (kvm/pager); here it is watched, so that a guest it can no longer serve ends.
 */
import { getSystemErrorName } from 'node:util';
import type { RamRange, RamWatch } from '../../kvm/bridge.js';
import { native, type NativePager, type Watcher } from '../../kvm/native.js';
import { Errno } from '../abi/errno.js';
import type { Log } from '../observe/log.js';
import { FrameState, type FrameHandles, type Frames } from './frames.js';
import { PAGE_SIZE } from './guest-memory.js';
import type { FrameCensus, PagingStats } from './paging-stats.js';

export interface PagerParts {
  readonly frames: Frames;
  readonly handles: FrameHandles;
  readonly ram: readonly RamRange[];
  /** The pager closes its descriptor. */
  readonly watch: RamWatch;
  /** Descriptor of the page file, read-write; the caller closes it after the pager. */
  readonly file: number;
  /** Bytes of guest RAM that stay in memory. */
  readonly maxResident: number;
  readonly log: Log;
  /** Pages can no longer be brought back: the guest must not run on. Told once. */
  readonly failed: () => void;
}

/** How often it is looked whether a page takes long, and from when on that is said; ms. */
const LOOK_EVERY = 2000;
const LONG = 10_000;

export class Pager {
  readonly #frames: Frames;
  readonly #native: NativePager;
  readonly #log: Log;
  readonly #done = native.eventfd();
  readonly #watcher: Watcher;
  readonly #descriptors: readonly number[];
  readonly #failed: () => void;
  readonly #waiting = new Set<() => void>();
  readonly #ram: readonly RamRange[];
  readonly #timer: NodeJS.Timeout;
  #slow = false;
  #crowded = 0;
  #blocked = false;
  #told = false;
  #ended = false;

  /** Starts it. Pins must be counted already. Throws what mmap reports. */
  constructor(parts: PagerParts) {
    const { frames, handles, ram, watch, file } = parts;
    this.#frames = frames;
    this.#ram = ram;
    this.#log = parts.log;
    this.#failed = parts.failed;
    this.#descriptors = [watch.fd, this.#done];
    this.#native = new native.Pager({
      uffd: watch.fd,
      words: handles.fd,
      wordsBytes: (native.frameHeader.WORDS + handles.frames) * 4,
      file,
      bell: handles.bell,
      done: this.#done,
      maxResident: Math.max(1, Math.floor(parts.maxResident / PAGE_SIZE)),
      ranges: watchedRanges(ram, watch),
    });
    this.#watcher = native.watchReadable(this.#done, () => this.#look());
    this.#native.start();
    this.#timer = setInterval(() => this.#watch(), LOOK_EVERY).unref();
  }

  /** Evicts what can be of a range of frames; how many, or -EBUSY if none because of pins, or another errno. */
  out(gfn: number, count: number): number {
    return this.#native.evict(gfn, count);
  }

  /**
   * Resolves when the frame is there, given back, or the pager has ended; then everything is to be looked up anew. Not
   * to be awaited with anything locked or pinned (spec A2.4).
   */
  async resident(gfn: number): Promise<void> {
    while (!this.#ended && this.#frames.failed === undefined) {
      const state = this.#frames.state(gfn);
      if (state !== FrameState.PAGED && state !== FrameState.PAGING_IN) return;
      const woken = new Promise<void>((resolve) => this.#waiting.add(resolve));
      // Full: others are being served, and each of them wakes us.
      if (this.#frames.request(gfn) === -Errno.EBUSY && this.#frames.state(gfn) === FrameState.PAGED) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        continue;
      }
      await woken;
    }
  }

  stats(): PagingStats {
    return this.#frames.stats();
  }

  /** Counts the guest's frames, one by one. */
  census(): FrameCensus {
    return this.#frames.census(this.#ram);
  }

  /** How much of the guest may be there, bytes. What is pinned stays even so. */
  limit(bytes: number): void {
    this.#frames.limit(Math.floor(bytes / PAGE_SIZE));
  }

  /** Ends it. The guest must be gone: what is paged out is lost. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#timer);
    this.#watcher.close();
    this.#native.stop();
    for (const fd of this.#descriptors) native.closeFd(fd);
    this.#wake();
  }

  #look(): void {
    native.eventfdDrain(this.#done);
    const { failed, blocked } = this.#frames;
    if (failed !== undefined) {
      if (this.#told) return;
      this.#told = true;
      this.#log.error({ gfn: failed.gfn, error: errorName(failed.errno) },
        'the pager has failed: the guest is ended, for a page of it cannot be brought back');
      this.#failed();
    } else if ((blocked !== 0) !== this.#blocked) {
      this.#blocked = blocked !== 0;
      if (this.#blocked) this.#log.error({ error: errorName(blocked) }, 'the page file cannot grow: the guest waits until it can');
      else this.#log.info({}, 'the page file can grow again: the guest goes on');
    }
    this.#wake();
  }

  /** Says what an operator has to know: that somebody waits long, or that the limit cannot be kept. */
  #watch(): void {
    const { oldestWait, waiting, crowded } = this.#frames.stats();
    const slow = oldestWait > LONG;
    if (slow && !this.#slow && !this.#blocked) {
      const gfn = this.#frames.serving;
      this.#log.warn({ ms: oldestWait, waiting, ...(gfn === undefined ? {} : { gfn }) }, 'a page of the guest takes long to come');
    }
    this.#slow = slow;
    if (crowded !== this.#crowded && this.#crowded === 0) {
      this.#log.warn({ pinned: this.census().pinned },
        'everything that may be there is pinned: the guest has more in memory than its limit; raise it with `xenshim page limit`');
    }
    this.#crowded = crowded;
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) {
      this.#waiting.delete(wake);
      wake();
    }
  }
}

/** What the pager reports beside errno of the page file: a page that is cut off, and one that is not what was written. */
function errorName(errno: number): string {
  return getSystemErrorName(-errno);
}

/** Guest RAM with the address it has in QEMU's process. */
function watchedRanges(ram: readonly RamRange[], watch: RamWatch) {
  return ram.flatMap((range) =>
    watch.mappings
      .filter(({ fd, offset, length }) =>
        fd === range.fd && range.offset >= offset && range.offset + range.pages * PAGE_SIZE <= offset + length)
      .slice(0, 1)
      .map(({ offset, hva }) => ({ ...range, hva: hva + (range.offset - offset) })),
  );
}
