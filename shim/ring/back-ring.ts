/**
 * The backend's side of a shared ring (public/io/ring.h) on pages of guest memory that need not lie together. Both
 * private indexes live here and only here; what the page says is checked on every pass, because the guest can change
 * it at any moment. Indexes are 32-bit and wrap: differences are taken `>>> 0`.
 */
import { Sring } from '../abi/io/ring.js';

const REQ_PROD = Sring.req_prod >>> 2;
const REQ_EVENT = Sring.req_event >>> 2;
const RSP_PROD = Sring.rsp_prod >>> 2;
const RSP_EVENT = Sring.rsp_event >>> 2;
const FIRST_SLOT = Sring.ring >>> 2;
/** 32-bit words in a page, as shift and mask. */
const PAGE_WORDS_SHIFT = 10;
const PAGE_WORDS_MASK = 1023;

/** A page of a ring: a window's words, and the word the page begins at. */
export interface RingPage {
  readonly i32: Int32Array;
  readonly base: number;
}

export class BackRing {
  /** Requests taken so far. */
  reqCons: number;
  /** Responses written so far, published or not. */
  rspProd: number;
  /** The frontend claims more requests than the ring has room for; nothing is taken from it any more. */
  halted = false;
  readonly mask: number;
  /** Where `locate` found the next request. */
  request: Int32Array;
  requestAt = 0;
  private readonly straddler: Int32Array;
  private rspPublished: number;
  private readonly head: Int32Array;
  private readonly headBase: number;
  private readonly words: Int32Array[];
  private readonly bases: Int32Array;
  private readonly slotWords: number;

  /** Attaches at the response index found in the page, so that a ring in use is carried on (spec B3). */
  constructor(
    pages: readonly RingPage[],
    /** A power of two that fits (`ringSlots`). */
    readonly slots: number,
    slotBytes: number,
  ) {
    this.words = pages.map((page) => page.i32);
    this.bases = Int32Array.from(pages, (page) => page.base);
    this.head = this.words[0]!;
    this.headBase = this.bases[0]!;
    this.mask = slots - 1;
    this.slotWords = slotBytes >>> 2;
    this.straddler = new Int32Array(this.slotWords);
    this.request = this.straddler;
    const rsp = Atomics.load(this.head, this.headBase + RSP_PROD);
    this.reqCons = rsp;
    this.rspProd = rsp;
    this.rspPublished = rsp;
    const req = Atomics.load(this.head, this.headBase + REQ_PROD);
    if ((req - rsp) >>> 0 > slots) this.halted = true;
  }

  /** Requests waiting; -1 once the ring is halted. Everything the frontend wrote before its index is visible after. */
  available(): number {
    if (this.halted) return -1;
    const waiting = (Atomics.load(this.head, this.headBase + REQ_PROD) - this.reqCons) >>> 0;
    // Waiting and unanswered requests together never exceed the ring; an index that went backwards is huge here.
    if (waiting + ((this.reqCons - this.rspProd) >>> 0) > this.slots) {
      this.halted = true;
      return -1;
    }
    return waiting;
  }

  /** Copies `count` words of the next request, from its word `from` on. Ask for each word once only (XSA-155). */
  copyRequest(from: number, count: number, into: Int32Array, at: number): void {
    const first = FIRST_SLOT + (this.reqCons & this.mask) * this.slotWords + from;
    const page = first >>> PAGE_WORDS_SHIFT;
    if (page === (first + count - 1) >>> PAGE_WORDS_SHIFT) {
      const words = this.words[page]!;
      const start = this.bases[page]! + (first & PAGE_WORDS_MASK);
      for (let i = 0; i < count; i++) into[at + i] = words[start + i]!;
      return;
    }
    for (let i = 0; i < count; i++) {
      const word = first + i;
      const at0 = this.bases[word >>> PAGE_WORDS_SHIFT]! + (word & PAGE_WORDS_MASK);
      into[at + i] = this.words[word >>> PAGE_WORDS_SHIFT]![at0]!;
    }
  }

  /**
   * Points `request` and `requestAt` at the words of the next request. They are the guest's own unless the slot lies
   * across two pages: read each word once only (XSA-155).
   */
  locate(): void {
    const first = FIRST_SLOT + (this.reqCons & this.mask) * this.slotWords;
    const page = first >>> PAGE_WORDS_SHIFT;
    if (page === (first + this.slotWords - 1) >>> PAGE_WORDS_SHIFT) {
      this.request = this.words[page]!;
      this.requestAt = this.bases[page]! + (first & PAGE_WORDS_MASK);
    } else {
      this.copyRequest(0, this.slotWords, this.straddler, 0);
      this.request = this.straddler;
      this.requestAt = 0;
    }
  }

  /** The next request has been copied: its slot may hold a response now. */
  consume(): void {
    this.reqCons = (this.reqCons + 1) | 0;
  }

  /** The request consumed last stays in the ring after all, to be copied afresh: nothing was pushed since. */
  giveBack(): void {
    this.reqCons = (this.reqCons - 1) | 0;
  }

  /** Sets one word of the response being written; `pushResponse` goes to the next. */
  setResponseWord(word: number, value: number): void {
    const at = FIRST_SLOT + (this.rspProd & this.mask) * this.slotWords + word;
    const page = at >>> PAGE_WORDS_SHIFT;
    this.words[page]![this.bases[page]! + (at & PAGE_WORDS_MASK)] = value;
  }

  /** The response is complete. The caller pushes at most one per request consumed. */
  pushResponse(): void {
    this.rspProd = (this.rspProd + 1) | 0;
  }

  /** Writes a whole response of 3 words, or 4 if `words` says so; the caller pushes at most one per request consumed. */
  respond(words: number, w0: number, w1: number, w2: number, w3: number): void {
    const at = FIRST_SLOT + (this.rspProd & this.mask) * this.slotWords;
    const page = at >>> PAGE_WORDS_SHIFT;
    if (page === (at + words - 1) >>> PAGE_WORDS_SHIFT) {
      const into = this.words[page]!;
      const first = this.bases[page]! + (at & PAGE_WORDS_MASK);
      into[first] = w0;
      into[first + 1] = w1;
      into[first + 2] = w2;
      if (words === 4) into[first + 3] = w3;
    } else {
      this.setResponseWord(0, w0);
      this.setResponseWord(1, w1);
      this.setResponseWord(2, w2);
      if (words === 4) this.setResponseWord(3, w3);
    }
    this.rspProd = (this.rspProd + 1) | 0;
  }

  /** Writes a whole response of one word; likewise. */
  respondWord(value: number): void {
    const at = FIRST_SLOT + (this.rspProd & this.mask) * this.slotWords;
    const page = at >>> PAGE_WORDS_SHIFT;
    this.words[page]![this.bases[page]! + (at & PAGE_WORDS_MASK)] = value;
    this.rspProd = (this.rspProd + 1) | 0;
  }

  /** Requests taken and not yet answered. */
  get unanswered(): number {
    return (this.reqCons - this.rspProd) >>> 0;
  }

  /** Publishes the responses written; true if the frontend asked to be told (RING_PUSH_RESPONSES_AND_CHECK_NOTIFY). */
  publish(): boolean {
    const old = this.rspPublished;
    const now = this.rspProd;
    if (old === now) return false;
    Atomics.store(this.head, this.headBase + RSP_PROD, now);
    this.rspPublished = now;
    const event = Atomics.load(this.head, this.headBase + RSP_EVENT);
    return (now - event) >>> 0 < (now - old) >>> 0;
  }

  /**
   * Asks for an event on the next request, then looks once more (RING_FINAL_CHECK_FOR_REQUESTS): true if one came in
   * between, or the ring has just been found broken.
   */
  finalCheck(): boolean {
    Atomics.store(this.head, this.headBase + REQ_EVENT, (this.reqCons + 1) | 0);
    return this.available() !== 0;
  }
}
