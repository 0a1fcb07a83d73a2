/** The frontend's side of a blkif ring, in both layouts, written as a guest sees it and as wrongly as a test wants. */
import { BLKIF_X86_64, BlkifOp } from '../../shim/abi/io/blkif.js';
import type { BlkifAbi } from '../../shim/abi/io/blkif.js';
import { ringSlots } from '../../shim/abi/io/ring.js';
import type { FakeGuest, GuestPage } from './fake-frontend-guest.js';

const REQ_PROD = 0;
const REQ_EVENT = 1;
const RSP_PROD = 2;
const RSP_EVENT = 3;
const FIRST_SLOT = 16;

export interface Segment {
  readonly ref: number;
  readonly first?: number;
  readonly last?: number;
}

export interface Request {
  readonly op: number;
  readonly id: bigint;
  readonly sector?: bigint;
  readonly segments?: readonly Segment[];
  /** Claimed number of segments, if not the true one. */
  readonly claim?: number;
  /** DISCARD: number of sectors. */
  readonly sectors?: bigint;
  readonly flag?: number;
  /** INDIRECT: the operation inside, the page that holds the segments. */
  readonly indirectOp?: number;
  readonly indirectRef?: number;
}

export interface Response {
  readonly id: bigint;
  readonly op: number;
  readonly status: number;
}

export class FakeFrontRing {
  readonly pages: readonly GuestPage[];
  readonly refs: readonly number[];
  readonly slots: number;
  reqProd = 0;
  rspCons = 0;
  #published = 0;

  constructor(
    private readonly guest: FakeGuest,
    order = 0,
    private readonly abi: BlkifAbi = BLKIF_X86_64,
  ) {
    this.pages = Array.from({ length: 2 ** order }, () => guest.page());
    for (const page of this.pages) page.i32.fill(0);
    this.refs = this.pages.map((page) => guest.grant(page.gfn));
    this.slots = ringSlots(this.pages.length, abi.slotBytes);
    this.head[REQ_EVENT] = 1;
    this.head[RSP_EVENT] = 1;
  }

  get head(): Int32Array {
    return this.pages[0]!.i32;
  }

  /** Starts over at some index, as a driver that was here before left it. */
  startAt(index: number): void {
    this.head[REQ_PROD] = this.head[RSP_PROD] = this.reqProd = this.rspCons = this.#published = index | 0;
    this.head[REQ_EVENT] = this.head[RSP_EVENT] = index + 1;
  }

  get free(): number {
    return this.slots - ((this.reqProd - this.rspCons) >>> 0);
  }

  /** Word `word` of the slot with ring index `index`. */
  word(index: number, word: number): { page: Int32Array; at: number } {
    const flat = FIRST_SLOT + ((index & (this.slots - 1)) * this.abi.slotBytes) / 4 + word;
    return { page: this.pages[flat >>> 10]!.i32, at: flat & 1023 };
  }

  set(index: number, word: number, value: number): void {
    const { page, at } = this.word(index, word);
    page[at] = value;
  }

  get(index: number, word: number): number {
    const { page, at } = this.word(index, word);
    return page[at]!;
  }

  /** Writes the next request without publishing it. */
  write(request: Request): void {
    const index = this.reqProd;
    const id = this.abi.idWord;
    for (let word = 0; word < this.abi.slotBytes / 4; word++) this.set(index, word, 0);
    const { segments = [] } = request;
    const claim = request.claim ?? segments.length;
    this.set64(index, id, request.id);
    this.set64(index, id + 2, request.sector ?? 0n);
    if (request.op === BlkifOp.INDIRECT) {
      this.set(index, 0, request.op | ((request.indirectOp ?? 0) << 8) | (claim << 16));
      this.set(index, id + 5, request.indirectRef ?? 0);
    } else if (request.op === BlkifOp.DISCARD) {
      this.set(index, 0, request.op | ((request.flag ?? 0) << 8));
      this.set64(index, id + 4, request.sectors ?? 0n);
    } else {
      this.set(index, 0, request.op | (claim << 8));
      for (const [i, segment] of segments.slice(0, 11).entries()) {
        this.set(index, id + 4 + 2 * i, segment.ref);
        this.set(index, id + 5 + 2 * i, rangeWord(segment));
      }
    }
    this.reqProd = (this.reqProd + 1) | 0;
  }

  /** Publishes what was written; true if the backend asked to be told. */
  push(): boolean {
    const old = this.#published;
    this.#published = this.reqProd;
    Atomics.store(this.head, REQ_PROD, this.reqProd);
    const event = Atomics.load(this.head, REQ_EVENT);
    return (this.reqProd - event) >>> 0 < (this.reqProd - old) >>> 0;
  }

  /** Publishes any index. */
  setReqProd(value: number): void {
    Atomics.store(this.head, REQ_PROD, value | 0);
  }

  get rspProd(): number {
    return Atomics.load(this.head, RSP_PROD);
  }

  /** Reads the responses published, then asks for an event on the next. */
  responses(): Response[] {
    const found: Response[] = [];
    do {
      while (this.rspCons !== this.rspProd) {
        const { id, op, status } = this.response(this.rspCons);
        found.push({ id, op, status });
        this.rspCons = (this.rspCons + 1) | 0;
      }
      Atomics.store(this.head, RSP_EVENT, (this.rspCons + 1) | 0);
    } while (this.rspCons !== this.rspProd);
    return found;
  }

  response(index: number): Response {
    const third = this.get(index, 2);
    const id = (BigInt(this.get(index, 1) >>> 0) << 32n) | BigInt(this.get(index, 0) >>> 0);
    return { id, op: third & 0xff, status: third >> 16 };
  }

  /** Gives the pages back; the references the backend still holds. */
  release(): number[] {
    const stuck = this.refs.filter((ref) => !this.guest.end(ref));
    if (stuck.length === 0) for (const page of this.pages) this.guest.freePage(page);
    return stuck;
  }

  private set64(index: number, word: number, value: bigint): void {
    this.set(index, word, Number(BigInt.asIntN(32, value)));
    this.set(index, word + 1, Number(BigInt.asIntN(32, value >> 32n)));
  }
}

export const rangeWord = ({ first = 0, last = 7 }: Segment): number => first | (last << 8);

/** Fills an indirect page. */
export function writeIndirect(page: Int32Array, segments: readonly Segment[]): void {
  for (const [i, segment] of segments.entries()) {
    page[2 * i] = segment.ref;
    page[2 * i + 1] = rangeWord(segment);
  }
}
