/** The credit a guest's packets are paid from: one bucket for all queues of a vif. Time comes in as an argument. */
import type { Rate } from './rate.js';
import { UNLIMITED } from './rate.js';
import { CREDIT_OFFSET, enter, leave, VIF_MEMORY_BYTES, VifWord } from './vif-memory.js';

/** A bucket holds at least this much once it has filled, so that any packet (below 64 KiB) passes in the end. */
const MIN_CEILING = 131072;

/** Doubles of the bucket. */
const BYTES = 0;
/** ms; 0 = the period is too short to limit anything. */
const PERIOD = 1;
const CEILING = 2;
const REMAINING = 3;
/** Start of the current period, ms. */
const START = 4;

export class Credit {
  readonly #words: Int32Array;
  readonly #bucket: Float64Array;

  /** @param memory shared by the queues, whose clocks must agree */
  constructor(rate: Rate = UNLIMITED, now = 0, memory = new SharedArrayBuffer(VIF_MEMORY_BYTES)) {
    this.#words = new Int32Array(memory);
    this.#bucket = new Float64Array(memory, CREDIT_OFFSET);
    this.limit(rate, now);
  }

  get unlimited(): boolean {
    return this.#bucket[BYTES] === Infinity;
  }

  /** Takes a new rate; the bucket starts with one period's worth. */
  limit(rate: Rate, now: number): void {
    const bucket = this.#bucket;
    // Linux counts whole milliseconds: a shorter period refills on every look.
    const period = Math.floor(rate.usec / 1000);
    const limited = Number.isFinite(rate.bytes) && period > 0;
    enter(this.#words, VifWord.CREDIT_LOCK);
    bucket[BYTES] = limited ? rate.bytes : Infinity;
    bucket[PERIOD] = limited ? period : 0;
    bucket[CEILING] = limited ? Math.max(MIN_CEILING, rate.bytes) : Infinity;
    bucket[REMAINING] = bucket[BYTES]!;
    bucket[START] = now;
    leave(this.#words, VifWord.CREDIT_LOCK);
  }

  /** Pays for `size` bytes; false leaves the bucket as it is, and the packet has to wait until `nextAt`. */
  take(size: number, now: number): boolean {
    const bucket = this.#bucket;
    if (bucket[BYTES] === Infinity) return true;
    enter(this.#words, VifWord.CREDIT_LOCK);
    if (bucket[REMAINING]! < size) this.#refill(now);
    const enough = bucket[REMAINING]! >= size;
    if (enough) bucket[REMAINING]! -= size;
    leave(this.#words, VifWord.CREDIT_LOCK);
    return enough;
  }

  /** When the next credit comes, ms on the caller's clock. */
  get nextAt(): number {
    return this.#bucket[START]! + this.#bucket[PERIOD]!;
  }

  #refill(now: number): void {
    const bucket = this.#bucket;
    const period = bucket[PERIOD]!;
    const periods = period > 0 ? Math.floor((now - bucket[START]!) / period) : 0;
    if (periods <= 0) return;
    bucket[START]! += periods * period;
    bucket[REMAINING] = Math.min(bucket[REMAINING]! + periods * bucket[BYTES]!, bucket[CEILING]!);
  }
}
