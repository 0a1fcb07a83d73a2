/** What a network backend is to those who make one: the command, and tests. */
import type { BackendPorts } from '../../shim/event-channel/backend-port.js';
import type { GuestHandles } from '../../shim/memory/attach.js';
import type { RamRange } from '../../shim/memory/guest-memory.js';
import type { Log } from '../../shim/observe/log.js';
import type { BackendDevice } from '../../shim/xenbus/backend-device.js';
import type { StoreClient } from '../../shim/xenstore/client.js';
import type { Capture } from './capture.js';
import type { Link } from './link.js';
import type { QueueStats } from './stats.js';

export interface NetBackendOptions {
  readonly store: StoreClient;
  readonly ports: BackendPorts;
  readonly handles: GuestHandles;
  /** The guest. */
  readonly domid: number;
  /** N of the guest's `device/vif/N`. */
  readonly index: number;
  /** `tap=NAME` and so on, or a link already open, which the vif closes. */
  readonly link: string | Link;
  /** Default: within 00:16:3e, the same for this link of this host every time. */
  readonly mac?: string;
  /** "bytes,usec": what the guest may transmit. Default: unlimited. */
  readonly rate?: string;
  /** Longest payload of a frame, for the link if it is ours and for the guest to read. Default: nothing is said. */
  readonly mtu?: number;
  /** What every queue writes its frames into; closed by the vif. */
  readonly capture?: Capture;
  readonly log: Log;
  /** The device is gone, after a detach or because the guest removed its end; the backend has closed itself. */
  removed?(): void;
  /** The worker died: its number in the grant table, for GrantTable.forgetThread. */
  threadLost?(thread: number): void;
}

export interface NetBackendStats extends QueueStats {
  readonly connected: boolean;
  readonly carrier: boolean;
  readonly queues: readonly QueueStats[];
}

/** What an operator may change while the vif is there. */
export interface NetBackendChange {
  /** Read by a frontend when it connects the next time. */
  readonly mac?: string;
  readonly mtu?: number;
  /** "bytes,usec", or "" for unlimited. */
  readonly rate?: string;
  readonly up?: boolean;
}

export interface NetBackend {
  /** Its end in the store; another one after each reset. */
  readonly device: BackendDevice;
  readonly mac: string;
  readonly up: boolean;
  /** Applies all of it or nothing. @throws OperatorError MAC_SYNTAX, MTU, RATE_SYNTAX */
  set(change: NetBackendChange): void;
  /** Guest RAM has a new layout. */
  remap(ram: readonly RamRange[]): Promise<void>;
  /** The machine is being reset: ends the connection and gives back everything of the guest's. The link stays. */
  letGo(): Promise<void>;
  /** After `letGo`: the device is in the store as on the first day. */
  restart(): void;
  /** Asks the guest to let go; `removed` follows when it has. */
  detach(): void;
  /** Ends the connection, gives the link back, and removes the device's directories. Idempotent. */
  close(): Promise<void>;
  stats(): NetBackendStats;
}
