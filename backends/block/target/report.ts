/** What a worker tells of its target's fate, and the lines of the log that come of it. */
import type { Log } from '../../../shim/observe/log.js';
import type { DiskImage } from '../image.js';

export type TargetNews =
  | { readonly state: 'lost' }
  | { readonly state: 'back'; readonly again: number }
  | { readonly state: 'trouble'; readonly text: string }
  /** It keeps guest pages that must be given back now: it has to be ended. */
  | { readonly state: 'stuck' };

export function reportTarget(log: Log, image: DiskImage, news: TargetNews): void {
  switch (news.state) {
    case 'lost':
      log.warn({}, 'the connection to the storage daemon is lost: requests wait');
      break;
    case 'back':
      log.info({ again: news.again }, 'the storage daemon is back: what it had in hand was submitted again');
      break;
    case 'trouble':
      log.warn({}, `${news.text}: the storage daemon is asked again`);
      break;
    case 'stuck':
      log.warn({}, 'the storage daemon does not give the guest its pages back: it is ended');
      image.end?.();
      break;
  }
}

/** Queues to offer, of those that are wanted. */
export const mostQueues = ({ place }: DiskImage, wanted: number): number =>
  place.kind === 'vhost-user' ? Math.min(wanted, place.queues) : wanted;

/** Threads for so many queues. What a storage daemon serves has one: the daemon takes one connection. */
export const workersOf = ({ place }: DiskImage, queues: number, perWorker = queues): number =>
  place.kind === 'vhost-user' ? 1 : Math.ceil(queues / perWorker);
