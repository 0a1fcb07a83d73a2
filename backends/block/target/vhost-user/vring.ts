/**
 * One virtqueue as its driver (virtio 1.2, 2.7), in memory of ours that the back end maps. A request's tag is its
 * descriptor: each has an indirect table of its own, filled in place, so there is nothing to allocate or to free, and a
 * guest's data is named by the address it has in this process, which is what the memory regions are entered under.
 */
import { closeFd, createEventfd, signalEventfd } from '../../../../shim/io/eventfd.js';
import type { SharedArena } from '../../../../shim/io/memory.js';
import { Phase } from '../../phases.js';
import { Field, RECORD_SHIFT } from '../../records.js';
import type { Records } from '../../records.js';
import { MAX_INDIRECT_SEGMENTS } from '../../request.js';

/** Descriptors; a ring of blkif has at most as many slots. */
export const RING_SIZE = 512;
const MASK = RING_SIZE - 1;

/** VRING_DESC_F_*. */
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** VIRTIO_BLK_T_*. */
const Type = Object.freeze({ IN: 0, OUT: 1, FLUSH: 4, DISCARD: 11 } as const);

/** VIRTIO_BLK_S_* to what a completion carries. */
const STATUS_OK = 0;
const STATUS_UNSUPPORTED = 2;
const EIO = -5;
const EOPNOTSUPP = -95;

/** Where things are, in bytes from the beginning of a queue's part. */
const AVAIL = RING_SIZE * 16;
const USED = 12288;
const HEADERS = 20480;
/** Request header (16), discard segment (16), status (1): a cache line. */
const HEADER_BYTES = 64;
const DISCARD_SEGMENT = 16;
const STATUS = 32;
const TABLES = HEADERS + RING_SIZE * HEADER_BYTES;
const TABLE_BYTES = (MAX_INDIRECT_SEGMENTS + 2) * 16;
/** Bytes of a queue's part: whole pages. */
export const VRING_BYTES = TABLES + RING_SIZE * TABLE_BYTES;

export class Vring {
  /** The back end waits for this one. */
  readonly kickFd = createEventfd();
  /** The back end rings this one. */
  readonly callFd = createEventfd();
  /** Requests in the back end's hands. */
  pending = 0;
  private readonly i32: Int32Array;
  private readonly u16: Uint16Array;
  private readonly u8: Uint8Array;
  private readonly lo: number;
  private readonly hi: number;
  private readonly availWord: number;
  private readonly usedWord: number;
  /** Available index: written so far, and as the back end knows it. */
  private next = 0;
  private known = 0;
  /** Used index as far as it was read. */
  private seen = 0;

  constructor(
    memory: SharedArena,
    readonly index: number,
  ) {
    this.base = index * VRING_BYTES;
    this.i32 = memory.i32;
    this.u16 = memory.u16;
    this.u8 = memory.u8;
    this.lo = memory.lo;
    this.hi = memory.hi;
    this.availWord = (this.base + AVAIL) >>> 1;
    this.usedWord = (this.base + USED) >>> 1;
  }

  private readonly base: number;

  /** Addresses in this process, for SET_VRING_ADDR. */
  get addresses(): { readonly desc: number; readonly avail: number; readonly used: number } {
    const at = this.hi * 0x1_0000_0000 + (this.lo >>> 0) + this.base;
    return { desc: at, avail: at + AVAIL, used: at + USED };
  }

  /** As on the first day: for a new connection. */
  reset(): void {
    this.u8.fill(0, this.base + AVAIL, this.base + HEADERS);
    this.next = this.known = this.seen = 0;
    this.pending = 0;
  }

  /** Puts a record's lowest phase into the queue. `maxDiscard` in sectors: the rest of a longer discard comes later. */
  add(records: Records, tag: number, maxDiscard: number): void {
    const { i32, lo, hi } = this;
    const header = this.base + HEADERS + tag * HEADER_BYTES;
    const table = this.base + TABLES + tag * TABLE_BYTES;
    const record = tag << RECORD_SHIFT;
    const phases = records.words[record + Field.PHASES]!;
    const phase = phases & -phases;
    const offsetLo = records.words[record + Field.OFFSET_LO]!;
    const offsetHi = records.words[record + Field.OFFSET_HI]!;
    const sectorLo = (offsetLo >>> 9) | (offsetHi << 23);
    const sectorHi = offsetHi >>> 9;
    const word = header >>> 2;
    let at = table >>> 2;
    let count = 1;
    let flags = NEXT;
    i32[word + 1] = 0;
    i32[word + 2] = sectorLo;
    i32[word + 3] = sectorHi;
    i32[at] = (lo + header) | 0;
    i32[at + 1] = hi;
    i32[at + 2] = 16;
    i32[at + 3] = NEXT | (1 << 16);
    at += 4;
    if (phase === Phase.DATA) {
      const write = records.words[record + Field.WRITE] === 1;
      i32[word] = write ? Type.OUT : Type.IN;
      flags = write ? NEXT : NEXT | WRITE;
      const buffers = records.buffers(tag);
      for (let i = 0; i < buffers; i++) {
        count++;
        records.copyBuffer(tag, i, i32, at);
        i32[at + 3] = flags | (count << 16);
        at += 4;
      }
    } else if (phase === Phase.DISCARD) {
      i32[word] = Type.DISCARD;
      i32[word + 2] = 0;
      i32[word + 3] = 0;
      i32[word + 4] = sectorLo;
      i32[word + 5] = sectorHi;
      i32[word + 6] = discardPiece(records, tag, maxDiscard);
      i32[word + 7] = 0;
      count = 2;
      i32[at] = (lo + header + DISCARD_SEGMENT) | 0;
      i32[at + 1] = hi;
      i32[at + 2] = 16;
      i32[at + 3] = NEXT | (2 << 16);
      at += 4;
    } else {
      i32[word] = Type.FLUSH;
      i32[word + 2] = 0;
      i32[word + 3] = 0;
    }
    i32[at] = (lo + header + STATUS) | 0;
    i32[at + 1] = hi;
    i32[at + 2] = 1;
    i32[at + 3] = WRITE;
    this.u8[header + STATUS] = 0xff;
    const desc = (this.base >>> 2) + 4 * tag;
    i32[desc] = (lo + table) | 0;
    i32[desc + 1] = hi;
    i32[desc + 2] = (count + 1) << 4;
    i32[desc + 3] = INDIRECT;
    this.u16[this.availWord + 2 + (this.next & MASK)] = tag;
    this.next = (this.next + 1) & 0xffff;
    this.pending++;
  }

  /** Publishes what was added, and kicks if the back end asked to be (EVENT_IDX). */
  push(): void {
    const { next, known } = this;
    if (next === known) return;
    this.known = next;
    // Sequentially consistent: the index is out before the event index is read.
    Atomics.store(this.u16, this.availWord + 1, next);
    const event = Atomics.load(this.u16, this.usedWord + 2 + 4 * RING_SIZE);
    if (((next - event - 1) & 0xffff) < ((next - known) & 0xffff)) signalEventfd(this.kickFd);
  }

  /** Tag of the next request that is done, or -1. */
  take(): number {
    const { seen } = this;
    if (Atomics.load(this.u16, this.usedWord + 1) === seen) return -1;
    this.seen = (seen + 1) & 0xffff;
    this.pending--;
    return this.i32[((this.base + USED) >>> 2) + 1 + 2 * (seen & MASK)]!;
  }

  /** What the back end said of a request: 0 or a negative Linux errno. */
  outcome(tag: number): number {
    const status = this.u8[this.base + HEADERS + tag * HEADER_BYTES + STATUS]!;
    if (status === STATUS_OK) return 0;
    return status === STATUS_UNSUPPORTED ? EOPNOTSUPP : EIO;
  }

  /** Asks to be called for the next completion. False if it is there already. */
  arm(): boolean {
    Atomics.store(this.u16, this.availWord + 2 + RING_SIZE, this.seen);
    return Atomics.load(this.u16, this.usedWord + 1) === this.seen;
  }

  close(): void {
    closeFd(this.kickFd);
    closeFd(this.callFd);
  }
}

/** Sectors of what is left of a discard that go at once. */
export function discardPiece(records: Records, tag: number, most: number): number {
  const at = tag << RECORD_SHIFT;
  const lo = records.words[at + Field.LENGTH_LO]! >>> 0;
  const hi = records.words[at + Field.LENGTH_HI]!;
  const sectors = hi * 0x80_0000 + lo / 512;
  return sectors < most ? sectors : most;
}
