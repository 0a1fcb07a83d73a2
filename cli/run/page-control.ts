/** What a running guest's control socket answers about paging. */
import { Errno } from '../../shim/abi/errno.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import type { Pager } from '../../shim/memory/pager.js';
import type { FrameCensus, PagingStats } from '../../shim/memory/paging-stats.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { ControlHandlers } from '../control/server.js';
import type { Guest } from './guest.js';
import { notUp } from './not-up.js';
import { LEAST_RESIDENT } from './paging-option.js';

/** Frames brought in by one command at most: each is waited for. */
const MOST_IN = 2 ** 18;

export interface PageReport extends PagingStats, FrameCensus {}

export function pageControl(guest: Pick<Guest, 'state' | 'pager'>): ControlHandlers {
  const pager = (): Pager => {
    if (guest.state === 'starting') notUp();
    if (guest.pager !== undefined) return guest.pager;
    throw new OperatorError('NOT_PAGED', 'this guest is not paged', 'start it with --page-to FILE --max-resident SIZE');
  };
  const range = (args: Readonly<Record<string, unknown>>): { gfn: number; count: number } => {
    const { gfn, count } = args as { gfn: number; count: number };
    if (Number.isSafeInteger(gfn) && gfn >= 0 && Number.isSafeInteger(count) && count >= 1) return { gfn, count };
    throw new OperatorError('FRAMES', 'these are no frames', 'give the number of a frame and perhaps how many');
  };
  return {
    'page-stat': (): PageReport => ({ ...pager().stats(), ...pager().census() }),
    'page-out': (args) => {
      const { gfn, count } = range(args);
      const done = pager().out(gfn, count);
      if (done >= 0) return done;
      if (done === -Errno.EBUSY) throw new OperatorError('PINNED', 'all of these frames are pinned', 'try again when their I/O is done');
      throw new OperatorError('PAGER_BUSY', 'the pager cannot do that now', 'see `xenshim page stat` and the log');
    },
    'page-in': async (args) => {
      const { gfn, count } = range(args);
      const from = pager();
      for (let each = gfn; each < gfn + Math.min(count, MOST_IN); each++) await from.resident(each);
      return Math.min(count, MOST_IN);
    },
    'page-limit': ({ bytes }) => {
      const { pinned } = pager().census();
      const least = Math.max(LEAST_RESIDENT, 2 * pinned * PAGE_SIZE);
      if (!Number.isSafeInteger(bytes) || (bytes as number) < least) {
        throw new OperatorError('MAX_RESIDENT', `${Math.floor(Number(bytes) / 2 ** 20)} MiB are too few to stay in memory`,
          `use at least ${Math.ceil(least / 2 ** 20)} MiB: ${pinned} pages are pinned now`);
      }
      pager().limit(bytes as number);
      return undefined;
    },
  };
}
