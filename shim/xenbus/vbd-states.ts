/** The state machine of a block backend (spec B3, after Linux xen-blkback's frontend_changed). */
import { XenbusState as S } from '../abi/io/xenbus.js';
import type { XenbusState } from '../abi/io/xenbus.js';
import type { FoundState } from './parse.js';
import type { Transition } from './transition.js';

export type VbdEffect =
  /** Let in-flight requests finish, then give back rings, grants and event channels. Harmless when not connected. */
  | 'disconnect'
  /** Read the frontend's keys, attach its rings, publish the disk. */
  | 'connect';

export function nextVbd(
  backend: XenbusState,
  frontend: FoundState,
  online: boolean,
): Transition<VbdEffect> | undefined {
  switch (frontend) {
    case S.Initialising:
      // A driver was loaded again after a close: offer the disk anew.
      return backend === S.Closed ? { state: S.InitWait, effects: [] } : undefined;
    case S.Initialised:
    case S.Connected:
      // Linux blkfront stops at Initialised until we are Connected; others go straight to Connected.
      return backend === S.Connected ? undefined : { state: S.Connected, effects: ['disconnect', 'connect'] };
    case S.Closing:
      return backend === S.Closing ? undefined : { state: S.Closing, effects: [] };
    case S.Closed:
      if (!online) return { state: S.Closed, effects: ['disconnect'], remove: true };
      return backend === S.Closed ? undefined : { state: S.Closed, effects: ['disconnect'] };
    case S.Unknown:
      // The frontend's directory is gone, and nobody is left to tell.
      return { state: S.Closed, effects: ['disconnect'], remove: true };
    default:
      return { state: S.Closing, effects: [], fatal: `saw state ${frontend} at frontend` };
  }
}
