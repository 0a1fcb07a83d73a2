/** A one-shot timer by the guest's clock for a guest's own timer, where Node's milliseconds are too coarse: a timerfd. */
import { native, type Watcher } from '../../kvm/native.js';
import type { SystemClock } from './clock.js';

/** Further off than any guest lives: 146 years. */
const NEVER_NS = 2 ** 62;

export class PreciseAlarm {
  readonly #clock: SystemClock;
  readonly #fd = native.timerfd();
  readonly #watcher: Watcher;
  #closed = false;

  constructor(clock: SystemClock, ring: () => void) {
    this.#clock = clock;
    this.#watcher = native.watchReadable(this.#fd, () => {
      // Nothing to read: it was set anew since.
      if (!this.#closed && native.eventfdDrain(this.#fd) > 0) ring();
    });
  }

  /** Rings at `deadline` ns, from a fresh turn of the event loop even if that is past. Replaces an earlier setting. */
  set(deadline: bigint): void {
    const left = Number(deadline - this.#clock.now());
    native.timerfdSet(this.#fd, Math.min(Math.max(left, 1), NEVER_NS));
  }

  stop(): void {
    native.timerfdSet(this.#fd, 0);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watcher.close();
    native.closeFd(this.#fd);
  }
}
