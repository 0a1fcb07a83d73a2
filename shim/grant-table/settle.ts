/**
 * The retries of spec A0 for a thread of a backend that waits in place, as a kernel's thread does: it serves one device,
 * and the pager that ends the wait is a thread of its own. The wait ends early when the page is there, so it is mostly
 * tens of microseconds; only the number of attempts and the longest sleeps are those of retry.ts.
 */
import { Gntst } from '../abi/grant-table.js';
import { MAX_DELAY } from './retry.js';
import type { GrantTable } from './table.js';

/** A wait worth a word, ms. */
const LONG = 10_000;

export interface Patience {
  /** The device is going away: no further attempt. */
  cancelled(): boolean;
  /** An op has failed for good. */
  gaveUp(ref: number): void;
  /** An op waits long, ms so far; told once for it. */
  slow?(ref: number, ms: number): void;
}

/**
 * Issues an op again whose batch attempt and immediate second attempt gave GNTST_eagain.
 * @param attempt issues it and returns its status
 * @returns a status other than GNTST_eagain
 */
export function settle(table: GrantTable, ref: number, patience: Patience, attempt: () => number): number {
  const began = performance.now();
  let told = patience.slow === undefined;
  for (let delay = 1; delay < MAX_DELAY; delay++) {
    if (patience.cancelled()) return Gntst.bad_page;
    table.waitForPage(ref, delay);
    // The last sleep is followed by no attempt.
    if (delay === MAX_DELAY - 1) break;
    const status = attempt();
    if (status !== Gntst.eagain) return status;
    if (told || performance.now() - began < LONG) continue;
    told = true;
    patience.slow?.(ref, Math.round(performance.now() - began));
  }
  patience.gaveUp(ref);
  return Gntst.bad_page;
}
