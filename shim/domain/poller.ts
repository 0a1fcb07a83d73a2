/** SCHEDOP_poll where the kernel does not carry it out: vCPUs that wait until one of some ports is pending. */
import type { Delivery } from '../event-channel/delivery.js';
import { Alarm } from './alarm.js';
import type { SystemClock } from './clock.js';

/** Events the kernel raises by itself are not reported to this process, so pending bits are looked at this often. */
const LOOK_MS = 1;

interface Waiter {
  readonly ports: readonly number[];
  readonly alarm: Alarm;
}

export class Poller {
  readonly #delivery: Delivery;
  readonly #clock: SystemClock;
  readonly #answer: (vcpu: number) => void;
  readonly #waiters = new Map<number, Waiter>();
  #look: NodeJS.Timeout | undefined;

  /** @param answer completes the hypercall of a vCPU with 0 */
  constructor(delivery: Delivery, clock: SystemClock, answer: (vcpu: number) => void) {
    this.#delivery = delivery;
    this.#clock = clock;
    this.#answer = answer;
    delivery.onRaise(() => {
      if (this.#waiters.size > 0) setImmediate(() => this.#check());
    });
  }

  /** An event is there for the vCPU already: one of the ports, or an upcall of any. */
  ready(vcpu: number, ports: readonly number[]): boolean {
    return (
      this.#delivery.areas.upcall(vcpu)?.pending === true || ports.some((port) => this.#delivery.pending(port))
    );
  }

  /** Answers the vCPU later: on an event, or at `deadline` ns of system time (0 = never). */
  wait(vcpu: number, ports: readonly number[], deadline: bigint): void {
    const alarm = new Alarm(this.#clock, () => this.#wake(vcpu));
    if (deadline > 0n) alarm.set(deadline);
    this.#waiters.set(vcpu, { ports, alarm });
    this.#look ??= setInterval(() => this.#check(), LOOK_MS);
  }

  /** Answers every waiter now. */
  wakeAll(): void {
    for (const vcpu of [...this.#waiters.keys()]) this.#wake(vcpu);
  }

  /** Forgets every waiter without an answer. */
  reset(): void {
    for (const { alarm } of this.#waiters.values()) alarm.stop();
    this.#waiters.clear();
    this.#rest();
  }

  #check(): void {
    for (const [vcpu, { ports }] of this.#waiters) if (this.ready(vcpu, ports)) this.#wake(vcpu);
  }

  #wake(vcpu: number): void {
    const waiter = this.#waiters.get(vcpu);
    if (waiter === undefined) return;
    waiter.alarm.stop();
    this.#waiters.delete(vcpu);
    this.#rest();
    this.#answer(vcpu);
  }

  #rest(): void {
    if (this.#waiters.size > 0) return;
    clearInterval(this.#look);
    this.#look = undefined;
  }
}
