/**
 * How long to poll before sleeping. Waking a sleeping thread costs about 20 µs on a virtual machine, so a short poll
 * pays when work comes at a quick pace; when it does not, polling stops altogether and an idle disk costs nothing.
 */

/** Longest poll, and what counts as a quick pace times four (ms). */
const LONGEST = 0.05;
/** A budget below this is not worth reading the clock for (ms). */
const SHORTEST = 0.003;

export class Spin {
  private budget = LONGEST;
  private since = 0;
  private sleptAt = 0;

  /** Work was found. */
  worked(): void {
    if (this.since === 0) return;
    this.since = 0;
    this.budget = LONGEST;
  }

  /** No work: true to look again at once, false to go to sleep. */
  again(now: number): boolean {
    if (this.budget < SHORTEST) return false;
    if (this.since === 0) this.since = now;
    return now - this.since < this.budget;
  }

  sleeping(now: number): void {
    this.sleptAt = now;
    if (this.since !== 0) this.budget /= 2;
    this.since = 0;
  }

  awake(now: number): void {
    if (now - this.sleptAt < 4 * LONGEST) this.budget = LONGEST;
  }
}
