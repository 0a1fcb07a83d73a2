/**
 * Requests in flight: one record per ring slot, in arrays indexed by tag, allocated at connect and reused. A tag comes
 * back only after its response is in the ring, so there are always enough.
 */
import { arena } from '../../shim/io/memory.js';
import type { Arena } from '../../shim/io/memory.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';

/** `struct iovec` in words, as a shift. */
const IOVEC_SHIFT = 2;
/** Bytes of iovecs a record has. */
const IOVEC_BYTES = MAX_INDIRECT_SEGMENTS * 16;

export class Records {
  readonly idLo: Int32Array;
  readonly idHi: Int32Array;
  /** Operation the response names. */
  readonly responseOp: Uint8Array;
  /** Phases still to be done, the lowest bit first. */
  readonly phases: Uint8Array;
  /** 1 = data goes to the disk. */
  readonly write: Uint8Array;
  /** Position on the disk in bytes, two words; moves on with what has been transferred. */
  readonly offsetLo: Int32Array;
  readonly offsetHi: Int32Array;
  /** Bytes still to be transferred (of a discard: none, its length is in the words below). */
  readonly left: Int32Array;
  readonly lengthLo: Int32Array;
  readonly lengthHi: Int32Array;
  /** Iovecs: first still in use, and one past the last. */
  readonly firstIovec: Int32Array;
  readonly endIovec: Int32Array;
  /** Grant handles held: how many, and which, from tag * MAX_INDIRECT_SEGMENTS on. */
  readonly held: Int32Array;
  readonly handle: Int32Array;
  /** Tags not in use. */
  free: number;
  private readonly stack: Int32Array;
  private readonly iovecs: Arena;

  constructor(readonly count: number) {
    this.idLo = new Int32Array(count);
    this.idHi = new Int32Array(count);
    this.responseOp = new Uint8Array(count);
    this.phases = new Uint8Array(count);
    this.write = new Uint8Array(count);
    this.offsetLo = new Int32Array(count);
    this.offsetHi = new Int32Array(count);
    this.left = new Int32Array(count);
    this.lengthLo = new Int32Array(count);
    this.lengthHi = new Int32Array(count);
    this.firstIovec = new Int32Array(count);
    this.endIovec = new Int32Array(count);
    this.held = new Int32Array(count);
    this.handle = new Int32Array(count * MAX_INDIRECT_SEGMENTS);
    this.stack = Int32Array.from({ length: count }, (_, tag) => count - 1 - tag);
    this.free = count;
    this.iovecs = arena(count * IOVEC_BYTES);
  }

  /** A tag; the caller has seen that one is free. */
  take(): number {
    const tag = this.stack[--this.free]!;
    this.firstIovec[tag] = 0;
    this.endIovec[tag] = 0;
    this.held[tag] = 0;
    this.left[tag] = 0;
    return tag;
  }

  give(tag: number): void {
    this.stack[this.free++] = tag;
  }

  /** Appends a buffer to a record's iovecs, joining it to the last one where they touch. */
  addBuffer(tag: number, address: number, length: number): void {
    const words = this.iovecs.i32;
    const lo = address | 0;
    const hi = (address / 0x1_0000_0000) | 0;
    const end = this.endIovec[tag]!;
    this.left[tag]! += length;
    if (end > 0) {
      const last = this.iovecWord(tag, end - 1);
      // A join across 4 GiB is not worth looking for.
      if (((words[last]! + words[last + 2]!) | 0) === lo && words[last + 1] === hi && lo !== 0) {
        words[last + 2]! += length;
        return;
      }
    }
    const at = this.iovecWord(tag, end);
    words[at] = lo;
    words[at + 1] = hi;
    words[at + 2] = length;
    words[at + 3] = 0;
    this.endIovec[tag] = end + 1;
  }

  /** Records that the first `bytes` (fewer than `left`) are done: the rest is what a new entry will ask for. */
  advance(tag: number, bytes: number): void {
    const words = this.iovecs.i32;
    this.left[tag]! -= bytes;
    const moved = (this.offsetLo[tag]! >>> 0) + bytes;
    this.offsetLo[tag] = moved | 0;
    if (moved > 0xffff_ffff) this.offsetHi[tag]! += 1;
    let skip = bytes;
    for (;;) {
      const at = this.iovecWord(tag, this.firstIovec[tag]!);
      const length = words[at + 2]!;
      if (skip < length) {
        const address = (words[at]! >>> 0) + skip;
        words[at] = address | 0;
        if (address > 0xffff_ffff) words[at + 1]! += 1;
        words[at + 2] = length - skip;
        return;
      }
      skip -= length;
      this.firstIovec[tag]! += 1;
    }
  }

  /** Address of the record's first iovec in use; the high word is `iovecsHi`. */
  iovecLo(tag: number): number {
    return (this.iovecs.lo + tag * IOVEC_BYTES + (this.firstIovec[tag]! << 4)) | 0;
  }

  get iovecsHi(): number {
    return this.iovecs.hi;
  }

  /** Address and length of the first iovec in use, for a transfer that has only one. */
  bufferLo(tag: number): number {
    return this.iovecs.i32[this.iovecWord(tag, this.firstIovec[tag]!)]!;
  }

  bufferHi(tag: number): number {
    return this.iovecs.i32[this.iovecWord(tag, this.firstIovec[tag]!) + 1]!;
  }

  /** The iovecs, four words each: address, length. */
  get iovecWords(): Int32Array {
    return this.iovecs.i32;
  }

  release(): void {
    this.iovecs.free();
  }

  /** Where in `iovecWords` an iovec of a record begins. */
  iovecWord(tag: number, index: number): number {
    return (tag * MAX_INDIRECT_SEGMENTS + index) << IOVEC_SHIFT;
  }
}
