/** The timers of a vCPU where the kernel does not run them: singleshot (also set_timer_op) and periodic. */
import type { SystemClock } from './clock.js';
import { PreciseAlarm } from './precise-alarm.js';

interface Timers {
  readonly singleshot: PreciseAlarm;
  periodic?: NodeJS.Timeout;
}

export class VcpuTimers {
  readonly #clock: SystemClock;
  readonly #fire: (vcpu: number) => void;
  readonly #timers = new Map<number, Timers>();

  /** @param fire raises VIRQ_TIMER on a vCPU */
  constructor(clock: SystemClock, fire: (vcpu: number) => void) {
    this.#clock = clock;
    this.#fire = fire;
  }

  /** Arms the singleshot timer; a time in the past fires at once. */
  setSingleshot(vcpu: number, deadline: bigint): void {
    const { singleshot } = this.#of(vcpu);
    if (deadline > this.#clock.now()) {
      singleshot.set(deadline);
      return;
    }
    singleshot.stop();
    this.#fire(vcpu);
  }

  stopSingleshot(vcpu: number): void {
    this.#timers.get(vcpu)?.singleshot.stop();
  }

  /** @param period ns; the caller has checked that it is not absurdly short */
  setPeriodic(vcpu: number, period: bigint): void {
    const timers = this.#of(vcpu);
    clearInterval(timers.periodic);
    timers.periodic = setInterval(() => this.#fire(vcpu), Math.min(Number(period) / 1e6, 2 ** 31 - 1));
  }

  stopPeriodic(vcpu: number): void {
    clearInterval(this.#timers.get(vcpu)?.periodic);
  }

  stopAll(): void {
    for (const { singleshot, periodic } of this.#timers.values()) {
      singleshot.close();
      clearInterval(periodic);
    }
    this.#timers.clear();
  }

  #of(vcpu: number): Timers {
    let timers = this.#timers.get(vcpu);
    if (timers === undefined) {
      timers = { singleshot: new PreciseAlarm(this.#clock, () => this.#fire(vcpu)) };
      this.#timers.set(vcpu, timers);
    }
    return timers;
  }
}
