/**
 * What a backend outside this tree is written with, and all it may import: docs/writing-a-backend.md. `xenshim run
 * --backend FILE` loads a module whose default export is a BackendFactory. Names that are not here may change at any time.
 */
import type { BackendPorts } from './event-channel/backend-port.js';
import type { Gntdev } from './grant-table/gntdev.js';
import type { GuestHandles } from './memory/attach.js';
import type { RamRange } from './memory/guest-memory.js';
import type { Log } from './observe/log.js';
import type { StoreClient } from './xenstore/client.js';

/** A guest as one backend sees it. It stays the same over resets of the machine. */
export interface BackendContext {
  readonly domid: number;
  /** What followed FILE on the command line: `key=value`; a key alone is `on`. */
  readonly options: ReadonlyMap<string, string>;
  readonly store: StoreClient;
  readonly ports: BackendPorts;
  /** Grants for this thread. What is still mapped after `letGo` is unmapped, and the log says so. */
  readonly gntdev: Gntdev;
  readonly log: Log;
  /** For a thread of the backend's own: `attachGuest(handles())` there. Asked for anew after each `remap`. */
  handles(): GuestHandles;
  /** Such a thread died without `detach`. @param thread its `grantTable.thread` */
  threadLost(thread: number): void;
}

/** What a backend answers for. A call that fails is logged, and the guest goes on without this backend's help. */
export interface Backend {
  /**
   * The machine is being reset or going away: finishes requests in flight and gives back every page and channel. The
   * guest's memory is used anew as soon as this resolves.
   */
  letGo(): void | Promise<void>;
  /** After `letGo`: puts the device into the store as on the first day. Before it returns, the guest may be running. */
  restart(): void;
  /** After `letGo`: the end. */
  close(): void | Promise<void>;
  /** Guest RAM has another layout; of interest to threads that have attached themselves. */
  remap?(ram: readonly RamRange[]): void | Promise<void>;
}

/** Called when the guest has found Xen and before it can look for devices, hence synchronous: they are to be there. */
export type BackendFactory = (context: BackendContext) => Backend;

export { Gntdev, type GntdevGuest, type GntdevMapOptions, type GrantMapping, type PagePlace } from './grant-table/gntdev.js';
export { attachGuest, type AttachedGuest, type GuestHandles } from './memory/attach.js';
export { PAGE_SIZE, type RamRange } from './memory/guest-memory.js';
export type { ForeignGrants } from './grant-table/foreign.js';
export { Gntst } from './abi/grant-table.js';

export { BackRing, type RingPage } from './ring/back-ring.js';
export { ringPages } from './ring/ring-pages.js';
export { ringSlots } from './abi/io/ring.js';
export * from './abi/io/blkif.js';

export { XenbusState } from './abi/io/xenbus.js';
export { BackendDevice } from './xenbus/backend-device.js';
export { DeviceMachine, type MachineActions } from './xenbus/machine.js';
export type { Next, Transition } from './xenbus/transition.js';
export { nextVbd, type VbdEffect } from './xenbus/vbd-states.js';
export { createDevice, removeDevice, requestDetach } from './xenbus/toolstack.js';
export { backendPath, errorPath, frontendPath, type DeviceId } from './xenbus/paths.js';
export type { StoreClient } from './xenstore/client.js';

export type { BackendPort, BackendPorts } from './event-channel/backend-port.js';
export { watchReadable } from './io/watch.js';
export { drainEventfd, signalEventfd } from './io/eventfd.js';

export { Errno } from './abi/errno.js';
export { OperatorError, XenError } from './observe/errors.js';
export { silentLog, type Log } from './observe/log.js';
