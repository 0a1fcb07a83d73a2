/** The credit a guest's packets are paid from. Pure: time comes in as an argument. */
import type { Rate } from './rate.js';
import { UNLIMITED } from './rate.js';

/** A bucket holds at least this much once it has filled, so that any packet (below 64 KiB) passes in the end. */
const MIN_CEILING = 131072;

export class Credit {
  #bytes = Infinity;
  /** ms; 0 = the period is too short to limit anything. */
  #period = 0;
  #ceiling = Infinity;
  #remaining = Infinity;
  /** Start of the current period, ms. */
  #start = 0;

  constructor(rate: Rate = UNLIMITED, now = 0) {
    this.limit(rate, now);
  }

  get unlimited(): boolean {
    return this.#remaining === Infinity;
  }

  /** Takes a new rate; the bucket starts with one period's worth. */
  limit(rate: Rate, now: number): void {
    // Linux counts whole milliseconds: a shorter period refills on every look.
    const period = Math.floor(rate.usec / 1000);
    const limited = Number.isFinite(rate.bytes) && period > 0;
    this.#bytes = limited ? rate.bytes : Infinity;
    this.#period = limited ? period : 0;
    this.#ceiling = limited ? Math.max(MIN_CEILING, rate.bytes) : Infinity;
    this.#remaining = this.#bytes;
    this.#start = now;
  }

  /** Pays for `size` bytes; false leaves the bucket as it is, and the packet has to wait until `nextAt`. */
  take(size: number, now: number): boolean {
    if (this.#remaining < size) this.#refill(now);
    if (this.#remaining < size) return false;
    this.#remaining -= size;
    return true;
  }

  /** When the next credit comes, ms on the caller's clock. */
  get nextAt(): number {
    return this.#start + this.#period;
  }

  #refill(now: number): void {
    const periods = Math.floor((now - this.#start) / this.#period);
    if (periods <= 0) return;
    this.#start += periods * this.#period;
    this.#remaining = Math.min(this.#remaining + periods * this.#bytes, this.#ceiling);
  }
}
