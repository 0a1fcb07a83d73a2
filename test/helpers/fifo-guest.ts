/**
 * A guest's side of the FIFO event-channel ABI, as a kernel plays it: it hears of events by its upcall flag only, takes
 * ports off the front of its queues, and masks and unmasks. Works on any memory; control blocks and event words are
 * where the test puts them.
 */
import type { Place } from '../../shim/event-channel/two-level.js';

export const PENDING = 0x8000_0000 | 0;
export const MASKED = 0x4000_0000;
export const LINKED = 0x2000_0000;
export const BUSY = 0x1000_0000;
export const LINK_MASK = 0x1ffff;

export class FifoGuest {
  /** Handled events, in order. */
  readonly handled: number[] = [];
  readonly #heads = new Map<number, Int32Array>();

  constructor(
    readonly words: (port: number) => { i32: Int32Array; at: number },
    readonly control: (vcpu: number) => Place,
  ) {}

  word(port: number): number {
    const { i32, at } = this.words(port);
    return Atomics.load(i32, at);
  }

  mask(port: number): void {
    const { i32, at } = this.words(port);
    Atomics.or(i32, at, MASKED);
  }

  /** Unmasks by itself if nothing is pending; false means that the hypervisor has to be asked. */
  unmask(port: number): boolean {
    const { i32, at } = this.words(port);
    for (;;) {
      const word = Atomics.load(i32, at);
      if ((word & PENDING) !== 0) return false;
      if (Atomics.compareExchange(i32, at, word, word & ~MASKED) === word) return true;
    }
  }

  /** The upcall: handles what is in the queues of a vCPU, at most `limit` events. False if it had to stop there. */
  upcall(vcpu: number, limit = Infinity): boolean {
    const { i32, at } = this.control(vcpu);
    const block = at >>> 2;
    let ready = Atomics.exchange(i32, block, 0);
    for (let done = 0; ready !== 0; done++) {
      if (done >= limit) {
        Atomics.or(i32, block, ready);
        return false;
      }
      const priority = 31 - Math.clz32(ready & -ready);
      if (this.#consume(vcpu, priority, i32, block) === 0) ready &= ~(1 << priority);
      ready |= Atomics.exchange(i32, block, 0);
    }
    return true;
  }

  #consume(vcpu: number, priority: number, i32: Int32Array, block: number): number {
    let heads = this.#heads.get(vcpu);
    if (heads === undefined) this.#heads.set(vcpu, (heads = new Int32Array(16)));
    const port = heads[priority] || Atomics.load(i32, block + 2 + priority);
    const link = this.#unlink(port);
    heads[priority] = link;
    if ((this.word(port) & (PENDING | MASKED)) === PENDING) {
      const { i32: words, at } = this.words(port);
      Atomics.and(words, at, ~PENDING);
      this.handled.push(port);
    }
    return link;
  }

  #unlink(port: number): number {
    const { i32, at } = this.words(port);
    for (;;) {
      const word = Atomics.load(i32, at);
      if (Atomics.compareExchange(i32, at, word, word & ~(LINKED | LINK_MASK)) === word) return word & LINK_MASK;
    }
  }
}
