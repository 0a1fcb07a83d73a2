/**
 * Frames read straight into the pages the guest has posted, several reads at a time. A read has to know beforehand how
 * many pages its frame takes: it expects the shape of the frame before. A frame of another shape, or one that needs work
 * done on it, is taken back out into our own memory, and so is every frame behind it, since slots are answered in order.
 */
import { NetifExtraType, NetifGsoType, NetRxFlag } from '../../shim/abi/io/netif.js';
import { INVALID_GRANT_HANDLE, MapBatch } from '../../shim/grant-table/foreign.js';
import type { ForeignGrants, PageChanged } from '../../shim/grant-table/foreign.js';
import { HandleBatch } from '../../shim/grant-table/page-batch.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import type { RamWindow } from '../../shim/memory/guest-memory.js';
import type { BackRing } from '../../shim/ring/back-ring.js';
import { putIovec } from './arena.js';
import type { Arena } from './arena.js';
import { MIN_FRAME } from './headers.js';
import type { RxOffload } from './rx-offload.js';
import { Counter } from './stats.js';
import { VnetHeader } from './vnet-header.js';

/** Slots the reads of one pass take at most: the frontend posts new ones meanwhile. */
const PASS_SLOTS = 64;
/** Pages of a buffer: a header and the largest frame. */
export const MAX_PAGES = 17;
const BUFFER_BYTES = MAX_PAGES * PAGE_SIZE;
const MAX_READS = 32;
/** Per read in the arena: its virtio-net header, then its iovecs. */
const IOVECS = 16;
const READ_BYTES = IOVECS + (MAX_PAGES + 2) * 16;

export const RX_DIRECT_ARENA_BYTES = MAX_READS * READ_BYTES;

/** What became of a read. */
export const Direct = Object.freeze({
  /** The link had nothing, or an error: see `result`. */
  FAILED: 0,
  /** Answered in its slots. */
  DELIVERED: 1,
  /** In the buffer given to `begin`, `result` bytes with the header. */
  TAKEN_BACK: 2,
});

export interface RxDirectSource {
  /** A vectored read; `RxDirect.received` follows. */
  readv(tag: number, address: number, count: number): void;
  /** The same at once: bytes or a negative errno. */
  readNow(address: number, count: number): number;
}

export interface RxDirectOptions {
  readonly ring: BackRing;
  readonly grants: ForeignGrants;
  readonly source: RxDirectSource;
  /** Buffers of MAX_PAGES pages each, for what does not fit. */
  readonly buffers: Arena;
  /** RX_DIRECT_ARENA_BYTES for ourselves. */
  readonly arena: Arena;
  readonly counters: Float64Array;
  readonly offload: RxOffload;
  readonly scatterGather: boolean;
}

export class RxDirect {
  /** Reads of the batch. */
  count = 0;
  /** Per read: its buffer; bytes read or a negative errno; what became of it. */
  readonly buffer = new Int32Array(MAX_READS);
  readonly result = new Int32Array(MAX_READS);
  readonly outcome = new Uint8Array(MAX_READS);

  readonly #ring: BackRing;
  readonly #grants: ForeignGrants;
  readonly #source: RxDirectSource;
  readonly #buffers: Arena;
  readonly #arena: Arena;
  readonly #counters: Float64Array;
  readonly #offload: RxOffload;
  readonly #scatterGather: boolean;
  readonly #slot = new Int32Array(2);
  /** The shape expected: pages, and 1 if a slot for the segment size follows the first. */
  #pages = 1;
  #extra = 0;
  /** Request ids of the batch's slots. */
  readonly #ids = new Uint16Array(MAX_READS * (MAX_PAGES + 1) + PASS_SLOTS);
  readonly #maps = new MapBatch(MAX_READS * MAX_PAGES);
  readonly #unmaps = new HandleBatch(MAX_READS * MAX_PAGES);
  readonly #windows: (RamWindow | undefined)[] = new Array<undefined>(MAX_READS * MAX_PAGES).fill(undefined);
  readonly #offsets = new Int32Array(MAX_READS * MAX_PAGES);
  readonly #pageChanged: PageChanged = (context, window, offset) => {
    this.#windows[context] = window;
    this.#offsets[context] = offset;
  };

  constructor(options: RxDirectOptions) {
    this.#ring = options.ring;
    this.#grants = options.grants;
    this.#source = options.source;
    this.#buffers = options.buffers;
    this.#arena = options.arena;
    this.#counters = options.counters;
    this.#offload = options.offload;
    this.#scatterGather = options.scatterGather;
  }

  /** Reads that could begin now, of `wanted` at most; 0 if the guest has posted too little. */
  possible(wanted: number): number {
    const slots = this.#pages + this.#extra;
    const posted = this.#ring.available();
    if (posted < slots) return 0;
    const most = Math.min(Math.floor(Math.min(posted, PASS_SLOTS) / slots), MAX_READS);
    return Math.min(wanted, Math.max(1, most));
  }

  /** Adds a buffer to the batch that `begin` starts. */
  add(buffer: number): void {
    this.buffer[this.count++] = buffer;
  }

  /** Pins the pages and begins the reads; false, with nothing begun, if a page cannot be pinned. */
  begin(): boolean {
    if (!this.hold()) return false;
    for (let i = 0; i < this.count; i++) {
      const iovecs = i === 0 ? this.#heldIovecs : this.#prepare(i);
      this.#source.readv(i, this.#arena.hva + i * READ_BYTES + IOVECS, iovecs);
    }
    return true;
  }

  /** The first read of the batch, whose pages are held, at once: bytes or a negative errno. */
  readNow(): number {
    return this.#source.readNow(this.#arena.hva + IOVECS, this.#heldIovecs);
  }

  /** Pins the pages of the batch, and makes its first read ready for `readNow`. False if a page cannot be pinned. */
  hold(): boolean {
    const ring = this.#ring;
    const slot = this.#slot;
    const maps = this.#maps;
    const slots = this.#pages + this.#extra;
    maps.count = 0;
    for (let i = 0; i < this.count; i++) {
      for (let k = 0; k < slots; k++) {
        ring.copyRequest(0, 2, slot, 0);
        ring.consume();
        this.#ids[i * slots + k] = slot[0]!;
        if (k !== 1 || this.#extra === 0) maps.add(slot[1]!, false, maps.count);
      }
    }
    if (this.#grants.map(maps, this.#pageChanged) > 0) {
      this.#unmap();
      this.#giveBack(this.count * slots);
      this.count = 0;
      return false;
    }
    this.#heldIovecs = this.#prepare(0);
    return true;
  }

  #heldIovecs = 0;

  /** Lists the pages of read `i`; returns how many iovecs that are. */
  #prepare(i: number): number {
    const arena = this.#arena;
    const pages = this.#pages;
    const at = i * READ_BYTES;
    putIovec(arena, at + IOVECS, 0, arena.hva + at, VnetHeader.SIZE);
    let count = 1;
    for (let k = 0; k < pages; k++) {
      const page = i * pages + k;
      putIovec(arena, at + IOVECS, count++, this.#windows[page]!.hva + this.#offsets[page]!, PAGE_SIZE);
    }
    const held = VnetHeader.SIZE + pages * PAGE_SIZE;
    if (held < BUFFER_BYTES) {
      const spill = this.#buffers.hva + this.buffer[i]! * BUFFER_BYTES + held;
      putIovec(arena, at + IOVECS, count++, spill, BUFFER_BYTES - held);
    }
    return count;
  }

  /** All reads have ended: answers frames that are where they belong, takes the others back, and unpins. */
  settle(): void {
    const slots = this.#pages + this.#extra;
    let used = 0;
    let inPlace = true;
    let last = -1;
    for (let i = 0; i < this.count; i++) {
      if (this.result[i]! < 0) {
        this.outcome[i] = Direct.FAILED;
        inPlace = false;
        continue;
      }
      last = i;
      const taken: number = inPlace ? this.#deliver(i) : 0;
      used += taken;
      inPlace = taken === slots;
      this.outcome[i] = taken > 0 ? Direct.DELIVERED : Direct.TAKEN_BACK;
      if (taken === 0) this.#takeBack(i);
    }
    const expectation = last < 0 ? 0 : this.#shape(last);
    this.#unmap();
    this.#giveBack(this.count * slots - used);
    if (expectation !== 0) {
      this.#pages = expectation >>> 1;
      this.#extra = expectation & 1;
    }
    this.count = 0;
  }

  /** Answers frame `i` in its own slots; returns how many it took, 0 if that cannot be. */
  #deliver(i: number): number {
    const offload = this.#offload;
    const bytes = this.result[i]! - VnetHeader.SIZE;
    const { i32 } = this.#arena;
    const header = (i * READ_BYTES) >> 2;
    if (bytes < MIN_FRAME || !offload.acceptAsIs(i32[header]!, i32[header + 1]!)) return 0;
    const { gsoType } = offload;
    const extra = gsoType === NetifGsoType.NONE ? 0 : 1;
    const pages = (bytes + PAGE_SIZE - 1) >>> 12;
    const slots = pages + extra;
    if (pages > this.#pages || slots > this.#pages + this.#extra || (pages > 1 && extra !== this.#extra)) return 0;
    const ring = this.#ring;
    const first = i * (this.#pages + this.#extra);
    let flags = offload.flags | (extra === 0 ? 0 : NetRxFlag.extra_info);
    for (let k = 0, left = bytes; k < pages; k++) {
      const part = Math.min(left, PAGE_SIZE);
      left -= part;
      ring.setResponseWord(0, this.#ids[first + k + (k > 0 ? extra : 0)]!);
      ring.setResponseWord(1, flags | (left > 0 ? NetRxFlag.more_data : 0) | (part << 16));
      ring.pushResponse();
      if (k === 0 && extra !== 0) {
        ring.setResponseWord(0, NetifExtraType.GSO | (offload.gsoSize << 16));
        ring.setResponseWord(1, gsoType);
        ring.pushResponse();
      }
      flags = 0;
    }
    this.#counters[Counter.rxSlots]! += slots;
    this.#counters[Counter.rxPackets]!++;
    this.#counters[Counter.rxBytes]! += bytes;
    return slots;
  }

  /** Pages of a frame and whether it has a segment size, as pages * 2 + extra; 0 if it is none to expect. */
  #shape(i: number): number {
    const first = this.#arena.i32[(i * READ_BYTES) >> 2]!;
    const pages = (this.result[i]! - VnetHeader.SIZE + PAGE_SIZE - 1) >>> 12;
    if (pages === 0 || pages >= MAX_PAGES || (pages > 1 && !this.#scatterGather)) return 0;
    return pages * 2 + (this.#offload.isGso(first) ? 1 : 0);
  }

  /** Copies header and what is in the guest's pages to the buffer, in front of what is there already. Rare. */
  #takeBack(i: number): void {
    const { u8 } = this.#buffers;
    const header = i * READ_BYTES;
    const into = this.buffer[i]! * BUFFER_BYTES;
    u8.set(this.#arena.u8.subarray(header, header + VnetHeader.SIZE), into);
    let left = this.result[i]! - VnetHeader.SIZE;
    for (let k = 0; k < this.#pages && left > 0; k++, left -= PAGE_SIZE) {
      const page = i * this.#pages + k;
      const from = this.#offsets[page]!;
      const at = into + VnetHeader.SIZE + k * PAGE_SIZE;
      u8.set(this.#windows[page]!.u8.subarray(from, from + Math.min(left, PAGE_SIZE)), at);
    }
  }

  #unmap(): void {
    const { count, handle } = this.#maps;
    this.#maps.count = 0;
    const unmaps = this.#unmaps;
    unmaps.count = 0;
    for (let i = 0; i < count; i++) {
      if (handle[i] !== INVALID_GRANT_HANDLE) unmaps.handle[unmaps.count++] = handle[i]!;
    }
    this.#grants.unmapHandles(unmaps);
  }

  #giveBack(slots: number): void {
    for (let i = 0; i < slots; i++) this.#ring.giveBack();
  }

  /** Unpins without a word to the guest; the link must be done with the reads. */
  abandon(): void {
    if (this.count > 0) this.#unmap();
    this.count = 0;
  }

  /** Gives memory back; nothing may be called afterwards. */
  free(): void {
    this.#unmaps.free();
  }
}
