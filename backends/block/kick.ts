/**
 * The frontend's event as a queue sees it. Events that bring no request are counted: after a few in a row the bell is
 * taken down for a while, twice as long each time and at most a second, so that a guest flooding its event channel
 * costs a bounded amount of CPU (XSA-332).
 */
import type { Doorbell } from '../../shim/io/doorbell.js';

/** Empty events in a row that are still taken for bad timing. */
const TOLERATED = 8;
/** ms. */
const LONGEST_PAUSE = 1000;

export class Kick {
  /** The bell rang since the last look at the ring. */
  private rung = false;
  private empty = 0;

  constructor(readonly bell: Doorbell) {}

  completed(flags: number, result: number): void {
    if (this.bell.completed(flags, result)) this.rung = true;
  }

  /**
   * The ring was looked at, and `taken` requests were found.
   * @returns ms to stay away from it; 0 for the usual case
   */
  looked(taken: number): number {
    if (taken > 0) {
      this.rung = false;
      this.empty = 0;
      return 0;
    }
    if (!this.rung) return 0;
    this.rung = false;
    this.empty++;
    return this.empty <= TOLERATED ? 0 : Math.min(LONGEST_PAUSE, 2 ** (this.empty - TOLERATED - 1));
  }
}
