/**
 * Requests in flight: one record per ring slot, allocated at connect and reused. A tag comes back only after its response
 * is in the ring, so there are always enough. What a request of one page needs is one cache line; only buffers and grants
 * beyond the first lie elsewhere.
 */
import { arena } from '../../shim/io/memory.js';
import type { Arena } from '../../shim/io/memory.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';

/** Words of a record, as a shift: a record begins at `tag << RECORD_SHIFT` of `words`. */
export const RECORD_SHIFT = 4;

/** Words of a record. */
export const Field = Object.freeze({
  ID_LO: 0,
  ID_HI: 1,
  /** Operation the response names. */
  OP: 2,
  /** Phases still to be done, the lowest bit first. */
  PHASES: 3,
  /** 1 = data goes to the disk. */
  WRITE: 4,
  /** Position on the disk in bytes; moves on with what has been transferred. */
  OFFSET_LO: 5,
  OFFSET_HI: 6,
  /** Bytes still to be transferred (of a discard: none, its length is in the words below). */
  LEFT: 7,
  LENGTH_LO: 8,
  LENGTH_HI: 9,
  /** Buffers: first still in use, and one past the last. */
  FIRST: 10,
  END: 11,
  /** Grant handles held: how many, and the first. */
  HELD: 12,
  HANDLE: 13,
  /** Address of the buffer, while there is only one in use; its length is LEFT. */
  BUFFER_LO: 14,
  BUFFER_HI: 15,
} as const);

/** Bytes of iovecs a record has; a little more than they take, so that those of two records are not in each other's way in the cache. */
const IOVEC_BYTES = MAX_INDIRECT_SEGMENTS * 16 + 64;
const IOVEC_WORDS = IOVEC_BYTES >>> 2;

export class Records {
  /** The records, sixteen words each. */
  readonly words: Int32Array;
  /** Tags not in use. */
  free: number;
  /** Grant handles after the first, from tag * MAX_INDIRECT_SEGMENTS + 1 on. */
  private readonly handles: Int32Array;
  private readonly stack: Int32Array;
  private readonly iovecs: Arena;

  constructor(readonly count: number) {
    this.words = new Int32Array(count << RECORD_SHIFT);
    this.handles = new Int32Array(count * MAX_INDIRECT_SEGMENTS);
    this.stack = Int32Array.from({ length: count }, (_, tag) => count - 1 - tag);
    this.free = count;
    this.iovecs = arena(count * IOVEC_BYTES);
  }

  /** A tag; the caller has seen that one is free. */
  take(): number {
    const tag = this.stack[--this.free]!;
    const { words } = this;
    const at = tag << RECORD_SHIFT;
    words[at + Field.FIRST] = 0;
    words[at + Field.END] = 0;
    words[at + Field.HELD] = 0;
    words[at + Field.LEFT] = 0;
    return tag;
  }

  give(tag: number): void {
    this.stack[this.free++] = tag;
  }

  /** Adds a grant handle to those the record holds. */
  hold(tag: number, handle: number): void {
    const at = (tag << RECORD_SHIFT) + Field.HELD;
    const held = this.words[at]!++;
    if (held === 0) this.words[at + (Field.HANDLE - Field.HELD)] = handle;
    else this.handles[tag * MAX_INDIRECT_SEGMENTS + held] = handle;
  }

  /** Handle `index` of those held. */
  handle(tag: number, index: number): number {
    return index === 0 ? this.words[(tag << RECORD_SHIFT) + Field.HANDLE]! : this.handles[tag * MAX_INDIRECT_SEGMENTS + index]!;
  }

  /** Appends a buffer, joining it to the last one where they touch. */
  addBuffer(tag: number, address: number, length: number): void {
    this.addBufferAt(tag, address | 0, (address / 0x1_0000_0000) | 0, length);
  }

  /** The same with the address in two words. */
  addBufferAt(tag: number, lo: number, hi: number, length: number): void {
    const { words } = this;
    const at = tag << RECORD_SHIFT;
    if (words[at + Field.END] === 0) {
      words[at + Field.BUFFER_LO] = lo;
      words[at + Field.BUFFER_HI] = hi;
      words[at + Field.LEFT] = length;
      words[at + Field.END] = 1;
    } else {
      this.addAnother(tag, at, lo, hi, length);
    }
  }

  private addAnother(tag: number, at: number, lo: number, hi: number, length: number): void {
    const { words } = this;
    const end = words[at + Field.END]!;
    if (end === 1) {
      // A join across 4 GiB is not worth looking for.
      if (((words[at + Field.BUFFER_LO]! + words[at + Field.LEFT]!) | 0) === lo && words[at + Field.BUFFER_HI] === hi && lo !== 0) {
        words[at + Field.LEFT]! += length;
        return;
      }
      this.setIovec(tag, 0, words[at + Field.BUFFER_LO]!, words[at + Field.BUFFER_HI]!, words[at + Field.LEFT]!);
    } else {
      const iovecs = this.iovecs.i32;
      const last = this.iovecWord(tag, end - 1);
      if (((iovecs[last]! + iovecs[last + 2]!) | 0) === lo && iovecs[last + 1] === hi && lo !== 0) {
        iovecs[last + 2]! += length;
        words[at + Field.LEFT]! += length;
        return;
      }
    }
    this.setIovec(tag, end, lo, hi, length);
    words[at + Field.LEFT]! += length;
    words[at + Field.END] = end + 1;
  }

  private setIovec(tag: number, index: number, lo: number, hi: number, length: number): void {
    const iovecs = this.iovecs.i32;
    const at = this.iovecWord(tag, index);
    iovecs[at] = lo;
    iovecs[at + 1] = hi;
    iovecs[at + 2] = length;
    iovecs[at + 3] = 0;
  }

  /** Forgets the buffers: they are added anew. */
  clearBuffers(tag: number): void {
    const at = tag << RECORD_SHIFT;
    this.words[at + Field.END] = 0;
    this.words[at + Field.LEFT] = 0;
  }

  /** Buffers in use. */
  buffers(tag: number): number {
    const at = tag << RECORD_SHIFT;
    return this.words[at + Field.END]! - this.words[at + Field.FIRST]!;
  }

  /** Writes address (two words) and length of buffer `index` of those in use. */
  copyBuffer(tag: number, index: number, into: Int32Array, to: number): void {
    const record = tag << RECORD_SHIFT;
    if (this.buffers(tag) === 1) {
      for (let i = 0; i < 2; i++) into[to + i] = this.words[record + Field.BUFFER_LO + i]!;
      into[to + 2] = this.words[record + Field.LEFT]!;
      return;
    }
    const from = this.iovecWord(tag, this.words[record + Field.FIRST]! + index);
    for (let i = 0; i < 3; i++) into[to + i] = this.iovecs.i32[from + i]!;
  }

  /** Records that the first `bytes` (fewer than LEFT) are done: the rest is what a new entry will ask for. */
  advance(tag: number, bytes: number): void {
    const { words } = this;
    const at = tag << RECORD_SHIFT;
    const several = this.buffers(tag) > 1;
    words[at + Field.LEFT]! -= bytes;
    addTo(words, at + Field.OFFSET_LO, bytes);
    if (several) this.advanceIovecs(tag, at, bytes);
    else addTo(words, at + Field.BUFFER_LO, bytes);
  }

  private advanceIovecs(tag: number, record: number, bytes: number): void {
    const { words } = this;
    const iovecs = this.iovecs.i32;
    let skip = bytes;
    for (;;) {
      const at = this.iovecWord(tag, words[record + Field.FIRST]!);
      const length = iovecs[at + 2]!;
      if (skip < length) {
        addTo(iovecs, at, skip);
        iovecs[at + 2] = length - skip;
        words[record + Field.BUFFER_LO] = iovecs[at]!;
        words[record + Field.BUFFER_HI] = iovecs[at + 1]!;
        return;
      }
      skip -= length;
      words[record + Field.FIRST]! += 1;
    }
  }

  /** Address of the first iovec in use of a record with several buffers; the high word is `iovecsHi`. */
  iovecLo(tag: number): number {
    return (this.iovecs.lo + tag * IOVEC_BYTES + (this.words[(tag << RECORD_SHIFT) + Field.FIRST]! << 4)) | 0;
  }

  get iovecsHi(): number {
    return this.iovecs.hi;
  }

  release(): void {
    this.iovecs.free();
  }

  private iovecWord(tag: number, index: number): number {
    return tag * IOVEC_WORDS + (index << 2);
  }
}

/** Adds to a number of two words, the low one first. */
function addTo(words: Int32Array, at: number, bytes: number): void {
  const sum = (words[at]! >>> 0) + bytes;
  words[at] = sum | 0;
  if (sum > 0xffff_ffff) words[at + 1]! += 1;
}
