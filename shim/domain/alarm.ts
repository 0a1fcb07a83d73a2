/** A one-shot timer by the guest's clock. Node's timers end at 2^31 ms, so longer ones are waited for in parts. */
import type { SystemClock } from './clock.js';

const LONGEST_MS = 2 ** 31 - 1;

export class Alarm {
  readonly #clock: SystemClock;
  readonly #ring: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(clock: SystemClock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  get armed(): boolean {
    return this.#timer !== undefined;
  }

  /** Rings at `deadline` ns, from a fresh turn of the event loop even if that is past. Replaces an earlier setting. */
  set(deadline: bigint): void {
    this.stop();
    const left = deadline - this.#clock.now();
    // Rounded up: a timer must not ring early.
    const ms = left <= 0n ? 0 : Math.min(Math.ceil(Number(left) / 1e6), LONGEST_MS);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (ms === LONGEST_MS) this.set(deadline);
      else this.#ring();
    }, ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
