/** What the main thread tells a vif's worker while it runs: words in shared memory, and a bell to look at them. */
import type { Rate } from './rate.js';

const STOP = 0;
/** Changes with every new rate. */
const RATE_GENERATION = 1;
/** Doubles: bytes, usec. */
const RATE_AT = 8;

const CONTROL_BYTES = 24;

export const createControl = (): SharedArrayBuffer => new SharedArrayBuffer(CONTROL_BYTES);

export class Control {
  readonly #words: Int32Array;
  readonly #rate: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer, 0, 2);
    this.#rate = new Float64Array(buffer, RATE_AT, 2);
  }

  get stopping(): boolean {
    return Atomics.load(this.#words, STOP) !== 0;
  }

  stop(): void {
    Atomics.store(this.#words, STOP, 1);
  }

  get rateGeneration(): number {
    return Atomics.load(this.#words, RATE_GENERATION);
  }

  /** The numbers may be torn when read while they are written; the generation moves after, and they are read again. */
  get rate(): Rate {
    return { bytes: this.#rate[0]!, usec: this.#rate[1]! };
  }

  setRate({ bytes, usec }: Rate): void {
    this.#rate[0] = bytes;
    this.#rate[1] = usec;
    Atomics.add(this.#words, RATE_GENERATION, 1);
  }
}
