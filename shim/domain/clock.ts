/** The guest's system time, as far as this process has to know it: for timers the kernel does not run. */
import type { Bridge } from '../../kvm/bridge.js';

export class SystemClock {
  readonly #bridge: Bridge;
  /** Host time at which the guest's time was 0, where the bridge cannot tell. */
  readonly #epoch = process.hrtime.bigint();

  constructor(bridge: Bridge) {
    this.#bridge = bridge;
  }

  /** ns since the guest's clock began. */
  now(): bigint {
    return this.#bridge.systemTime?.() ?? process.hrtime.bigint() - this.#epoch;
  }
}
