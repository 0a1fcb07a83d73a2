/**
 * Who may be in the table: any number of threads that map and unmap, or one that moves, grows or resets it. As Xen's
 * per-CPU read lock, each thread announces itself in a word of its own, so that mappers never contend.
 */
import { Head, MAX_THREADS, Slot, SLOT_WORDS, type GrantState } from './state.js';

/** How long an exclusive section waits for the others, ms. They are in for microseconds unless their thread died. */
const PATIENCE = 5000;

export class TableGuard {
  readonly #state: GrantState;
  readonly #words: Int32Array;
  readonly #readingAt: number;

  /** Claims a thread slot; throws when all are taken (our own bug: somebody does not detach). */
  constructor(state: GrantState) {
    this.#state = state;
    this.#words = state.words;
    this.slot = TableGuard.#claim(state);
    this.#readingAt = state.slotsAt + this.slot * SLOT_WORDS + Slot.READING;
  }

  /** 0 … MAX_THREADS - 1 */
  readonly slot: number;

  static #claim(state: GrantState): number {
    for (let slot = 0; slot < MAX_THREADS; slot++) {
      const at = state.slotsAt + slot * SLOT_WORDS + Slot.CLAIMED;
      if (Atomics.compareExchange(state.words, at, 0, 1) === 0) return slot;
    }
    throw new Error(`grant table: ${MAX_THREADS} threads are attached already`);
  }

  /** Enters shared. Short: no waiting, no callbacks until `leave`. Not re-entrant. */
  enter(): void {
    const words = this.#words;
    // A full barrier between the two: either we see the writer, or the writer sees us.
    Atomics.store(words, this.#readingAt, 1);
    if (words[Head.WRITER] !== 0) this.#enterSlowly();
  }

  #enterSlowly(): void {
    const words = this.#words;
    for (;;) {
      Atomics.store(words, this.#readingAt, 0);
      const writer = Atomics.load(words, Head.WRITER);
      if (writer !== 0) Atomics.wait(words, Head.WRITER, writer, 1);
      Atomics.store(words, this.#readingAt, 1);
      if (Atomics.load(words, Head.WRITER) === 0) return;
    }
  }

  leave(): void {
    this.#words[this.#readingAt] = 0;
  }

  /** Runs `section` with nobody else in the table. Not to be called between `enter` and `leave`. */
  exclusive<T>(section: () => T): T {
    const words = this.#words;
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const other = Atomics.compareExchange(words, Head.WRITER, 0, this.slot + 1);
      if (other === 0) break;
      if (Date.now() > deadline) throw new Error(`grant table: thread ${other - 1} never lets go`);
      Atomics.wait(words, Head.WRITER, other, 1);
    }
    try {
      for (let slot = 0; slot < MAX_THREADS; slot++) {
        const at = this.#state.slotsAt + slot * SLOT_WORDS + Slot.READING;
        while (Atomics.load(words, at) !== 0) {
          if (Date.now() > deadline) throw new Error(`grant table: thread ${slot} never leaves`);
          Atomics.wait(words, at, 1, 1);
        }
      }
      return section();
    } finally {
      Atomics.store(words, Head.WRITER, 0);
      Atomics.notify(words, Head.WRITER);
    }
  }

  /** Gives the slot back. */
  release(): void {
    this.#clear(this.slot);
  }

  /** Gives back the slot of a thread that ended without `release`. */
  forget(slot: number): void {
    this.#clear(slot);
  }

  #clear(slot: number): void {
    const at = this.#state.slotsAt + slot * SLOT_WORDS;
    Atomics.store(this.#words, at + Slot.READING, 0);
    Atomics.store(this.#words, at + Slot.CLAIMED, 0);
  }
}
