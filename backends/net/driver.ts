/** A vif: negotiation with its frontend over xenbus, and the lifetime of its link and its worker. */
import { Errno } from '../../shim/abi/errno.js';
import { XenbusState } from '../../shim/abi/io/xenbus.js';
import type { BackendPort, BackendPorts } from '../../shim/event-channel/backend-port.js';
import type { GuestHandles } from '../../shim/memory/attach.js';
import { XenError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import { DeviceMachine } from '../../shim/xenbus/machine.js';
import { createDevice, removeDevice } from '../../shim/xenbus/toolstack.js';
import type { StoreClient } from '../../shim/xenstore/client.js';
import { FEATURES, readFrontend } from './features.js';
import type { QueueNodes } from './features.js';
import type { Link } from './link.js';
import { NO_OFFLOADS } from './link.js';
import { openLink } from './links.js';
import { defaultMac, parseMac, requireMac } from './mac.js';
import { parseRate, UNLIMITED } from './rate.js';
import type { Rate } from './rate.js';
import type { QueueStats } from './stats.js';
import { VifDevice } from './vif-device.js';
import type { VifReport } from './vif-loop.js';
import { nextVif } from './vif-states.js';
import type { VifEffect } from './vif-states.js';
import { VifWorker } from './vif-worker.js';

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
  /** The guest has let go of a device that was asked to leave; the backend has closed itself. */
  readonly removed?: () => void;
}

export interface NetBackendStats extends QueueStats {
  readonly connected: boolean;
  readonly carrier: boolean;
}

export interface NetBackend {
  readonly mac: string;
  /** Ends the connection, gives the link back, and removes the device's directories. Idempotent. */
  close(): Promise<void>;
  stats(): NetBackendStats;
}

/**
 * Creates the device's directories and serves its frontend from now on.
 * @throws OperatorError for a link that cannot be opened or an address that is none
 */
export function createNetBackend(options: NetBackendOptions): NetBackend {
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
  readonly #store: StoreClient;
  readonly #ports: BackendPorts;
  readonly #log: Log;
  readonly #device: VifDevice;
  readonly #machine: DeviceMachine<VifEffect>;
  readonly #worker: VifWorker;
  readonly #removed: (() => void) | undefined;
  #channels: BackendPort[] = [];
  #carrier = false;
  #closing: Promise<void> | undefined;

  constructor(
    options: NetBackendOptions,
    readonly link: Link,
    readonly mac: string,
  ) {
    const { store, domid, index, handles, rate } = options;
    const id = { kind: 'vif', domid, id: index };
    this.#store = store;
    this.#ports = options.ports;
    this.#removed = options.removed;
    this.#log = options.log.child({ vif: `${domid}.${index}`, link: link.description });
    createDevice(
      store,
      id,
      { handle: String(index), mac, script: link.description, type: 'vif', ...(rate === undefined ? {} : { rate }) },
      { handle: String(index), mac },
    );
    this.#device = new VifDevice(store, id, this.#log);
    this.#worker = new VifWorker(
      handles,
      (report) => {
        this.#reported(report);
      },
      (error) => {
        this.#log.error({ err: error }, 'vif worker failed');
        this.#device.fatal(Errno.EIO, 'internal error');
      },
    );
    this.#machine = new DeviceMachine(this.#device, nextVif, {
      perform: (effect) => (effect === 'connect' ? this.#connect() : this.#disconnect()),
      failed: () => this.#disconnect(),
      removed: () => {
        this.#device.forgetHotplug();
        void this.close().then(() => this.#removed?.());
      },
    });
    this.#setCarrier(false);
    this.#device.publishAndSwitch(FEATURES, XenbusState.InitWait);
    // The link is open and, if it is ours, up: all that a hotplug script would have done.
    this.#device.hotplugDone();
    this.#device.watchKey(`${this.#device.backendPath}/rate`, () => {
      if (this.#worker.connected) this.#worker.setRate(this.#rate());
    });
    this.#machine.start();
  }

  stats(): NetBackendStats {
    return { ...this.#worker.stats(), connected: this.#worker.connected, carrier: this.#carrier };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // Called from within a pass of the machine when the device was removed: not to wait for itself.
    const stopped = this.#machine.stop();
    await this.#worker.close();
    await stopped;
    this.#release();
    this.link.close();
    removeDevice(this.#store, this.#device.id);
  }

  async #connect(): Promise<void> {
    await this.#disconnect();
    this.#checkToolstackKeys();
    const { queues, scatterGather, notifies, offloads } = readFrontend(this.#device);
    const queue = queues[0]!;
    const channels = this.#bind(queue);
    this.link.setOffloads(offloads);
    await this.#worker.connect({
      linkFd: this.link.fd,
      txRef: queue.txRef,
      rxRef: queue.rxRef,
      channels,
      offloads,
      scatterGather,
      notifies,
      rate: this.#rate(),
    });
    this.#setCarrier(true);
    this.#log.info({ ...offloads, scatterGather, notifies }, 'vif connected');
    this.#device.awaitHotplug();
  }

  /** What the toolstack owes a vif (spec C2). */
  #checkToolstackKeys(): void {
    for (const key of ['script', 'handle']) {
      if (this.#device.backendKey(key) === undefined) throw new XenError(Errno.ENOENT, `reading ${key}`);
    }
    if (parseMac(this.#device.backendKey('mac') ?? '') === undefined) throw new XenError(Errno.EINVAL, 'parsing mac');
  }

  #bind({ txPort, rxPort }: QueueNodes): { txKick: number; txCall: number; rxKick: number; rxCall: number } {
    const tx = this.#ports.bindInterdomain(this.#device.id.domid, txPort);
    this.#channels.push(tx);
    let rx = tx;
    if (rxPort !== txPort) {
      rx = this.#ports.bindInterdomain(this.#device.id.domid, rxPort);
      this.#channels.push(rx);
    }
    return { txKick: tx.kickFd, txCall: tx.callFd, rxKick: rx.kickFd, rxCall: rx.callFd };
  }

  async #disconnect(): Promise<void> {
    await this.#worker.disconnect();
    this.#release();
  }

  /** After the worker has let go. */
  #release(): void {
    this.#setCarrier(false);
    for (const channel of this.#channels.splice(0)) channel.close();
    this.link.setOffloads(NO_OFFLOADS);
  }

  #rate(): Rate {
    const text = this.#device.backendKey('rate');
    if (text === undefined) return UNLIMITED;
    const rate = parseRate(text);
    if (rate === undefined) this.#log.warn({ rate: text }, 'rate is not "bytes,usec": unlimited');
    return rate ?? UNLIMITED;
  }

  #reported(report: VifReport): void {
    if (report.kind === 'disabled') {
      this.#log.error({ reason: report.reason }, 'frontend broke the protocol: vif disabled until it reconnects');
      this.#setCarrier(false);
      return;
    }
    this.#log.warn({ carrier: report.on }, report.on ? 'guest posts buffers again' : 'guest posts no buffers');
    this.#setCarrier(report.on);
  }

  #setCarrier(on: boolean): void {
    this.#carrier = on;
    this.link.setCarrier(on);
  }
}
