/** SCHEDOP_watchdog: two timers a guest must keep winding, or the domain is shut down for `watchdog`. */
import { Errno } from '../abi/errno.js';

const WATCHDOGS = 2;

export class Watchdogs {
  readonly #expired: () => void;
  readonly #timers: (NodeJS.Timeout | undefined)[] = [];

  constructor(expired: () => void) {
    this.#expired = expired;
  }

  /**
   * @param id 0 takes a free watchdog, else the one to wind
   * @param timeout seconds; 0 gives the watchdog back
   * @returns the id taken, 0, or a negative errno
   */
  set(id: number, timeout: number): number {
    if (id > WATCHDOGS) return -Errno.EINVAL;
    if (id === 0) {
      if (timeout === 0) return -Errno.EINVAL;
      for (let free = 1; free <= WATCHDOGS; free++) {
        if (this.#timers[free] !== undefined) continue;
        this.#arm(free, timeout);
        return free;
      }
      return -Errno.ENOSPC;
    }
    if (this.#timers[id] === undefined) return -Errno.EINVAL;
    this.#disarm(id);
    if (timeout !== 0) this.#arm(id, timeout);
    return 0;
  }

  stopAll(): void {
    for (let id = 1; id <= WATCHDOGS; id++) this.#disarm(id);
  }

  #arm(id: number, timeout: number): void {
    this.#timers[id] = setTimeout(this.#expired, Math.min(timeout * 1000, 2 ** 31 - 1));
  }

  #disarm(id: number): void {
    clearTimeout(this.#timers[id]);
    this.#timers[id] = undefined;
  }
}
