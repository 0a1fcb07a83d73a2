/**
 * A request as the guest wrote it, copied out of the ring once. Everything after looks at the copy alone: the guest may
 * rewrite the slot at any time (XSA-155).
 */
import { BlkifOp, MAX_SEGMENTS, SECTORS_PER_PAGE } from '../../shim/abi/io/blkif.js';
import type { BlkifAbi } from '../../shim/abi/io/blkif.js';
import type { BackRing } from '../../shim/ring/back-ring.js';

/** Segments of an indirect request at most; they fit into one indirect page. */
export const MAX_INDIRECT_SEGMENTS = 256;

/** Words from `id` to the fields that follow it, the same in both layouts. */
const SECTOR = 2;
const BODY = 4;

export class RequestCopy {
  /** BlkifOp of the request; of an indirect one, the operation inside. Any byte the guest likes. */
  op = 0;
  indirect = false;
  /** As claimed; segments are copied only if the claim can be true. */
  segments = 0;
  idLo = 0;
  idHi = 0;
  sectorLo = 0;
  sectorHi = 0;
  /** Discards only: sectors. */
  nrLo = 0;
  nrHi = 0;
  /** Indirect requests only: where the segments are. */
  indirectRef = 0;
  /** Pairs of words: gref, first_sect | last_sect << 8. Filled by `take`, or from the indirect page. */
  readonly segment = new Int32Array(2 * MAX_INDIRECT_SEGMENTS);
  private readonly idWord: number;

  constructor(abi: BlkifAbi) {
    this.idWord = abi.idWord;
  }

  /** Copies the ring's next request and consumes it. */
  take(ring: BackRing): void {
    ring.locate();
    const from = ring.request;
    const id = ring.requestAt + this.idWord;
    const first = from[ring.requestAt]!;
    const op = first & 0xff;
    this.op = op;
    this.indirect = false;
    this.segments = (first >>> 8) & 0xff;
    this.idLo = from[id]!;
    this.idHi = from[id + 1]!;
    this.sectorLo = from[id + SECTOR]!;
    this.sectorHi = from[id + SECTOR + 1]!;
    const body = id + BODY;
    if (op <= BlkifOp.FLUSH_DISKCACHE) {
      const { segment } = this;
      const words = this.segments <= MAX_SEGMENTS ? 2 * this.segments : 0;
      for (let i = 0; i < words; i++) segment[i] = from[body + i]!;
    } else if (op === BlkifOp.INDIRECT) {
      this.indirect = true;
      this.op = (first >>> 8) & 0xff;
      this.segments = first >>> 16;
      // One word on from the others: `handle` stands where their body begins.
      this.indirectRef = from[body + 1]! >>> 0;
    } else if (op === BlkifOp.DISCARD) {
      this.nrLo = from[body]!;
      this.nrHi = from[body + 1]!;
    }
    ring.consume();
  }

  /** Sectors the copied segments cover, or -1 if one of them is not a piece of a page. */
  sectors(): number {
    let sum = 0;
    for (let i = 0; i < this.segments; i++) {
      const range = this.segment[2 * i + 1]!;
      const first = range & 0xff;
      const last = (range >>> 8) & 0xff;
      if (first > last || last >= SECTORS_PER_PAGE) return -1;
      sum += last - first + 1;
    }
    return sum;
  }
}

/** A 64-bit count of sectors as a double: exact as far as any disk reaches, and never wrapping beyond. */
export const sectorNumber = (lo: number, hi: number): number => (hi >>> 0) * 0x1_0000_0000 + (lo >>> 0);
