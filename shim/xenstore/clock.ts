/** Time as the store needs it: in tests a fake, else the event loop. */
export interface Clock {
  /** ms, monotonic. */
  now(): number;
  /** Runs `body` once, in a fresh turn of the event loop, `ms` from now or later. Returns what cancels it. */
  after(ms: number, body: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, body) {
    if (ms <= 0) {
      const soon = setImmediate(body);
      return () => clearImmediate(soon);
    }
    const timer = setTimeout(body, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
