/** How many events a guest's console may raise (spec D4: 30 in 200 ms); the rest wait. Pure: time is an argument. */

export const EVENTS_PER_PERIOD = 30;
export const PERIOD_MS = 200;

export class EventThrottle {
  #start = -Infinity;
  #count = 0;

  /** Counts an event. Returns 0, or for how many ms no further one is to be taken. */
  event(now: number): number {
    if (now - this.#start >= PERIOD_MS) {
      this.#start = now;
      this.#count = 0;
    }
    this.#count++;
    return this.#count < EVENTS_PER_PERIOD ? 0 : this.#start + PERIOD_MS - now;
  }
}
