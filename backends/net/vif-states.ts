/**
 * The state machine of a network backend (spec C2, after Linux xen-netback's set_backend_state): the frontend's state
 * names a goal, and each row is one hop of the shortest path there. Total: any number may stand for either state.
 */
import { XenbusState as S } from '../../shim/abi/io/xenbus.js';
import type { XenbusState } from '../../shim/abi/io/xenbus.js';
import type { FoundState } from '../../shim/xenbus/parse.js';
import type { Transition } from '../../shim/xenbus/transition.js';

export type VifEffect =
  /** Read the frontend's keys, attach rings and event channels, start to move packets. */
  | 'connect'
  /** Read again what a frontend may change while it is connected. */
  | 'reconfigure'
  /** Stop, answer what is in flight, give back rings, grants and event channels. Harmless when not connected. */
  | 'disconnect';

type Hop = Transition<VifEffect>;

const INIT_WAIT: Hop = { state: S.InitWait, effects: [] };
const CONNECT: Hop = { state: S.Connected, effects: ['connect'] };
const CLOSING: Hop = { state: S.Closing, effects: ['disconnect'] };
const CLOSED: Hop = { state: S.Closed, effects: ['disconnect'] };
const RECONFIGURED: Hop = { state: S.Reconfigured, effects: ['reconfigure'] };
/** The frontend has seen the answer to its Reconfiguring; rings and channels are as they were. */
const RESUMED: Hop = { state: S.Connected, effects: [] };

/** One hop from `backend` towards InitWait. */
function towardsInitWait(backend: XenbusState): Hop | undefined {
  if (backend === S.InitWait) return undefined;
  if (backend === S.Initialising || backend === S.Closed) return INIT_WAIT;
  return backend === S.Closing ? CLOSED : CLOSING;
}

function towardsConnected(backend: XenbusState): Hop | undefined {
  if (backend === S.Connected) return undefined;
  if (backend === S.Reconfigured) return RESUMED;
  return backend === S.InitWait ? CONNECT : towardsInitWait(backend);
}

function towardsClosed(backend: XenbusState): Hop | undefined {
  if (backend === S.Closed) return undefined;
  return backend === S.Initialising || backend === S.Closing ? CLOSED : CLOSING;
}

export function nextVif(backend: XenbusState, frontend: FoundState, online: boolean): Hop | undefined {
  switch (frontend) {
    case S.Initialising:
      return towardsInitWait(backend);
    case S.Initialised:
      // netfront has nothing to say here; some frontends pass through it.
      return undefined;
    case S.Connected:
      return towardsConnected(backend);
    case S.Reconfiguring:
      return backend === S.Connected ? RECONFIGURED : undefined;
    case S.Closing:
      return backend === S.Closing || backend === S.Closed ? undefined : CLOSING;
    case S.Closed:
      if (!online) return { state: S.Closed, effects: ['disconnect'], remove: true };
      return towardsClosed(backend);
    case S.Unknown:
      // The frontend's directory is gone, and nobody is left to tell.
      return { state: S.Closed, effects: ['disconnect'], remove: true };
    default:
      return { state: S.Closing, effects: ['disconnect'], fatal: `saw state ${frontend} at frontend` };
  }
}
