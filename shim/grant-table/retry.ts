/**
 * What happens to map ops whose frame was not there (GNTST_eagain, spec A0): attempt 1 was the batch, attempt 2 an
 * immediate re-issue of the op alone (both in gnttabMapRefs); then sleeps of 1, 2, … 255 ms, each but the last followed
 * by another attempt. 256 attempts and 32,640 ms in all, after which the op has failed with GNTST_bad_page.
 */
import { Gnttabop, Gntst } from '../abi/grant-table.js';
import type { Log } from '../observe/log.js';
import type { MapBatch, PageChanged } from './foreign.js';
import { handOverPages } from './map-refs.js';
import { grantTableOp } from './shim-hypercall.js';
import type { GrantTable } from './table.js';

/** Sleeps stop before this many ms. */
export const MAX_DELAY = 256;

/** Resolves after `ms`, or at once when the signal aborts. Leaves no timer behind. */
export type Sleep = (ms: number, signal: AbortSignal) => Promise<void>;

export const timerSleep: Sleep = (ms, signal) =>
  new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const wake = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    signal.addEventListener('abort', wake);
  });

export interface RetryOptions {
  /** Who asks, for the log: the function, and the device or frontend. */
  readonly func: string;
  readonly who: string;
  /** Aborts when the frontend disconnects. */
  readonly signal: AbortSignal;
  readonly log: Log;
  readonly sleep?: Sleep;
}

/**
 * Settles a batch in which gnttabMapRefs left GNTST_eagain: op by op in index order, the other ops untouched, then the
 * page-changed callbacks of all mapped ops. No op has GNTST_eagain afterwards. After an abort unsettled ops have
 * GNTST_bad_page and no callback runs; mapped ops are still the caller's to unmap.
 * @returns how many ops of the batch did not succeed
 */
export async function retryEagain(
  table: GrantTable,
  ops: MapBatch,
  pageChanged: PageChanged | null,
  count: number,
  options: RetryOptions,
): Promise<number> {
  let failed = 0;
  for (let i = 0; i < count; i++) {
    if (ops.status[i] === Gntst.eagain) await retryOne(table, ops, i, options);
    if (ops.status[i] !== Gntst.okay) failed++;
  }
  if (pageChanged !== null && !options.signal.aborted) handOverPages(ops, pageChanged, count);
  return failed;
}

async function retryOne(table: GrantTable, ops: MapBatch, i: number, options: RetryOptions): Promise<void> {
  const { signal, sleep = timerSleep } = options;
  for (let delay = 1; delay < MAX_DELAY && !signal.aborted; delay++) {
    await sleep(delay, signal);
    if (signal.aborted || delay === MAX_DELAY - 1) break;
    grantTableOp(table, Gnttabop.map_grant_ref, ops, i, 1);
    if (ops.status[i] !== Gntst.eagain) return;
  }
  if (!signal.aborted) options.log.warn({ ref: ops.ref[i] }, `${options.func}: ${options.who} eagain grant`);
  ops.status[i] = Gntst.bad_page;
}
