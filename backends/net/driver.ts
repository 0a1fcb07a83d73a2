/** A vif: negotiation with its frontend over xenbus, and the lifetime of its link and its worker. */
import { Errno } from '../../shim/abi/errno.js';
import { XenbusState } from '../../shim/abi/io/xenbus.js';
import type { BackendPort, BackendPorts } from '../../shim/event-channel/backend-port.js';
import type { GuestHandles } from '../../shim/memory/attach.js';
import type { RamRange } from '../../shim/memory/guest-memory.js';
import { uringProblem } from '../../shim/io/uring.js';
import { OperatorError, XenError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import { DeviceMachine } from '../../shim/xenbus/machine.js';
import type { DeviceId } from '../../shim/xenbus/paths.js';
import { createDevice, removeDevice, requestDetach } from '../../shim/xenbus/toolstack.js';
import type { StoreClient } from '../../shim/xenstore/client.js';
import { FEATURES, readFrontend } from './features.js';
import type { QueueNodes } from './features.js';
import type { Link } from './link.js';
import { NO_OFFLOADS } from './link.js';
import { openLink } from './links.js';
import { defaultMac, parseMac, requireMac } from './mac.js';
import { parseRate, UNLIMITED } from './rate.js';
import type { Rate } from './rate.js';
import { COUNTER_BYTES, readStats } from './stats.js';
import type { QueueStats } from './stats.js';
import type { VifChannels, VifEvent, VifRequest, VifWorkerSettings } from './messages.js';
import { VifDevice } from './vif-device.js';
import { nextVif } from './vif-states.js';
import type { VifEffect } from './vif-states.js';
import { WorkerHost } from '../worker-host.js';

export interface NetBackendOptions {
  readonly store: StoreClient;
  readonly ports: BackendPorts;
  readonly handles: GuestHandles;
  /** The guest. */
  readonly domid: number;
  /** N of the guest's `device/vif/N`. */
  readonly index: number;
  /** `tap=NAME`, or a link already open, which the vif closes. */
  readonly link: string | Link;
  /** Default: within 00:16:3e, the same for this link of this host every time. */
  readonly mac?: string;
  /** "bytes,usec": what the guest may transmit. Default: unlimited. */
  readonly rate?: string;
  readonly log: Log;
  /** The device is gone, after a detach or because the guest removed its end; the backend has closed itself. */
  removed?(): void;
  /** The worker died: its number in the grant table, for GrantTable.forgetThread. */
  threadLost?(thread: number): void;
}

export interface NetBackendStats extends QueueStats {
  readonly connected: boolean;
  readonly carrier: boolean;
}

export interface NetBackend {
  readonly mac: string;
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

/**
 * Creates the device's directories and serves its frontend from now on.
 * @throws OperatorError for a link that cannot be opened, an address that is none, or a host without io_uring
 */
export function createNetBackend(options: NetBackendOptions): NetBackend {
  const problem = uringProblem();
  if (problem !== undefined) {
    throw new OperatorError(
      'IO_URING',
      `this host offers no io_uring (${problem})`,
      'use Linux 5.11 or later with kernel.io_uring_disabled = 0',
      3,
    );
  }
  const description = typeof options.link === 'string' ? options.link : options.link.description;
  const mac = options.mac === undefined ? defaultMac(description, options.index) : requireMac(options.mac);
  const link = typeof options.link === 'string' ? openLink(options.link) : options.link;
  try {
    return new Vif(options, link, mac);
  } catch (error) {
    link.close();
    throw error;
  }
}

class Vif implements NetBackend {
  readonly #options: NetBackendOptions;
  readonly #log: Log;
  readonly #id: DeviceId;
  #device: VifDevice;
  #machine: DeviceMachine<VifEffect>;
  readonly #worker: WorkerHost;
  readonly #counters = new SharedArrayBuffer(COUNTER_BYTES);
  /** Event channels of the connection; empty when there is none. */
  #channels: BackendPort[] = [];
  #connected = false;
  #carrier = false;
  #thread: number | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    options: NetBackendOptions,
    readonly link: Link,
    readonly mac: string,
  ) {
    const { store, domid, index } = options;
    this.#options = options;
    this.#log = options.log.child({ vif: `${domid}.${index}`, link: link.description });
    this.#id = { kind: 'vif', domid, id: index };
    this.#device = new VifDevice(store, this.#id, this.#log);
    this.#worker = this.#startWorker();
    this.#machine = this.#begin();
  }

  stats(): NetBackendStats {
    return { ...readStats(new Float64Array(this.#counters)), connected: this.#connected, carrier: this.#carrier };
  }

  async remap(ram: readonly RamRange[]): Promise<void> {
    await this.#ask({ kind: 'remap', ram });
  }

  detach(): void {
    requestDetach(this.#options.store, this.#id);
  }

  async letGo(): Promise<void> {
    await this.#machine.stop();
    await this.#disconnect();
  }

  restart(): void {
    if (this.#closing !== undefined) return;
    this.#device = new VifDevice(this.#options.store, this.#id, this.#log);
    this.#machine = this.#begin();
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    await this.letGo();
    await this.#worker.close();
    this.link.close();
    removeDevice(this.#options.store, this.#id);
  }

  /** Puts the device into the store and waits for a frontend. */
  #begin(): DeviceMachine<VifEffect> {
    const device = this.#device;
    this.#populate();
    this.#setCarrier(false);
    device.publishAndSwitch(FEATURES, XenbusState.InitWait);
    // The link is open and, if it is ours, up: all that a hotplug script would have done.
    device.hotplugDone();
    device.watchKey(`${device.backendPath}/rate`, () => {
      if (this.#connected) void this.#ask({ kind: 'rate', rate: this.#rate() });
    });
    const machine = new DeviceMachine(device, nextVif, {
      perform: (effect) => (effect === 'connect' ? this.#connect() : this.#disconnect()),
      failed: () => this.#disconnect(),
      removed: () => {
        device.forgetHotplug();
        void this.close().then(() => this.#options.removed?.());
      },
    });
    machine.start();
    return machine;
  }

  /** The toolstack's part. */
  #populate(): void {
    const { store, index, rate } = this.#options;
    const handle = String(index);
    createDevice(
      store,
      this.#id,
      {
        handle,
        mac: this.mac,
        script: this.link.description,
        type: 'vif',
        ...(rate === undefined ? {} : { rate }),
      },
      { handle, mac: this.mac },
    );
  }

  async #connect(): Promise<void> {
    this.#checkToolstackKeys();
    const { queues, scatterGather, notifies, offloads } = readFrontend(this.#device);
    const queue = queues[0]!;
    try {
      const channels = this.#bind(queue);
      this.link.setOffloads(offloads);
      await this.#ask({
        kind: 'connect',
        connect: {
          txRef: queue.txRef,
          rxRef: queue.rxRef,
          channels,
          offloads,
          scatterGather,
          notifies,
          rate: this.#rate(),
        },
      });
    } catch (error) {
      this.#closeChannels();
      throw error;
    }
    this.#connected = true;
    this.#setCarrier(true);
    this.#log.info({ ...offloads, scatterGather, notifies }, 'frontend connected');
    this.#device.awaitHotplug();
  }

  /** What the toolstack owes a vif (spec C2). */
  #checkToolstackKeys(): void {
    for (const key of ['script', 'handle']) {
      if (this.#device.backendKey(key) === undefined) throw new XenError(Errno.ENOENT, `reading ${key}`);
    }
    if (parseMac(this.#device.backendKey('mac') ?? '') === undefined) throw new XenError(Errno.EINVAL, 'parsing mac');
  }

  #bind({ txPort, rxPort }: QueueNodes): VifChannels {
    const bind = (remotePort: number): BackendPort => {
      const port = this.#options.ports.bindInterdomain(this.#options.domid, remotePort);
      this.#channels.push(port);
      return port;
    };
    const tx = bind(txPort);
    const rx = rxPort === txPort ? tx : bind(rxPort);
    return { txKick: tx.kickFd, txCall: tx.callFd, rxKick: rx.kickFd, rxCall: rx.callFd };
  }

  /** Harmless when not connected. */
  async #disconnect(): Promise<void> {
    if (!this.#connected) return;
    this.#connected = false;
    this.#setCarrier(false);
    try {
      await this.#ask({ kind: 'disconnect' });
    } finally {
      this.#closeChannels();
      this.link.setOffloads(NO_OFFLOADS);
    }
  }

  #closeChannels(): void {
    for (const channel of this.#channels.splice(0)) channel.close();
  }

  #rate(): Rate {
    const text = this.#device.backendKey('rate');
    if (text === undefined) return UNLIMITED;
    const rate = parseRate(text);
    if (rate === undefined) this.#log.warn({ rate: text }, 'rate is not "bytes,usec": unlimited');
    return rate ?? UNLIMITED;
  }

  #ask(request: VifRequest): Promise<unknown> {
    return this.#worker.call(request);
  }

  #startWorker(): WorkerHost {
    const { domid, index, handles, log } = this.#options;
    const settings: VifWorkerSettings = { guest: handles, linkFd: this.link.fd, counters: this.#counters };
    return new WorkerHost({
      script: new URL('./worker.js', import.meta.url),
      name: `vif-${domid}-${index}`,
      data: settings,
      log,
      event: (event) => {
        this.#told(event as VifEvent);
      },
      lost: () => {
        this.#lost();
      },
    });
  }

  #told(event: VifEvent): void {
    switch (event.kind) {
      case 'attached':
        this.#thread = event.thread;
        break;
      case 'carrier':
        this.#log.warn({ carrier: event.on }, event.on ? 'guest posts buffers again' : 'guest posts no buffers');
        if (this.#connected) this.#setCarrier(event.on);
        break;
      case 'disabled':
        this.#log.error({ reason: event.reason }, 'frontend broke the protocol: vif disabled until it reconnects');
        this.#setCarrier(false);
    }
  }

  /** Our own bug: this vif ends here, the guest's others go on. */
  #lost(): void {
    this.#connected = false;
    this.#setCarrier(false);
    this.#closeChannels();
    this.#device.fatal(Errno.EIO, 'internal error');
    if (this.#thread !== undefined) this.#options.threadLost?.(this.#thread);
  }

  #setCarrier(on: boolean): void {
    this.#carrier = on;
    this.link.setCarrier(on);
  }
}
