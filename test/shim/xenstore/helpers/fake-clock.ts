import type { Clock } from '../../../../shim/xenstore/clock.js';

/** Time that passes when told to. */
export class FakeClock implements Clock {
  #now = 1000;
  #timers: { due: number; body: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, body: () => void): () => void {
    const timer = { due: this.#now + Math.max(0, ms), body };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  get waiting(): number {
    return this.#timers.length;
  }

  /** Lets time pass, and everything due run; at most `limit` callbacks, so that a test cannot hang. */
  advance(ms: number, limit = 10_000): void {
    const end = this.#now + ms;
    for (let ran = 0; ran < limit; ran++) {
      const next = this.#timers.filter(({ due }) => due <= end).sort((a, b) => a.due - b.due)[0];
      if (next === undefined) {
        this.#now = end;
        return;
      }
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = Math.max(this.#now, next.due);
      next.body();
    }
    throw new Error('the clock never comes to rest');
  }

  settle(): void {
    this.advance(0);
  }
}
