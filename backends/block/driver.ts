/** A disk's driver: negotiates with the frontend over the store, and has its worker do the rest. */
import { availableParallelism } from 'node:os';

import { XenbusState } from '../../shim/abi/io/xenbus.js';
import { Errno } from '../../shim/abi/errno.js';
import type { BackendPort, BackendPorts } from '../../shim/event-channel/backend-port.js';
import type { GuestHandles } from '../../shim/memory/attach.js';
import type { RamRange } from '../../shim/memory/guest-memory.js';
import { uringProblem } from '../../shim/io/uring.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import { BackendDevice } from '../../shim/xenbus/backend-device.js';
import { DeviceMachine } from '../../shim/xenbus/machine.js';
import type { DeviceId } from '../../shim/xenbus/paths.js';
import { createDevice, removeDevice, requestDetach } from '../../shim/xenbus/toolstack.js';
import { nextVbd } from '../../shim/xenbus/vbd-states.js';
import type { VbdEffect } from '../../shim/xenbus/vbd-states.js';
import type { StoreClient } from '../../shim/xenstore/client.js';
import { MAX_BUFFER_PAGES, MOST_BUFFER_PAGES } from './bounce-pool.js';
import { diskKeys, offers } from './advertise.js';
import { readFrontend } from './frontend.js';
import type { NegotiationLimits } from './frontend.js';
import { openImage } from './image.js';
import type { DiskImage } from './image.js';
import type { Target } from './target/target.js';
import type { Alert, ProtocolName, WorkerEvent } from './messages.js';
import { readReport, readStatistics, statisticsBuffer } from './statistics.js';
import type { BlockReport, BlockStatistics } from './statistics.js';
import { resizeImage } from './resize.js';
import type { ResizeRequest } from './resize.js';
import { mostQueues, reportTarget, workersOf } from './target/report.js';
import type { VirtualDevice } from './virtual-device.js';
import { DiskWorkers } from './workers.js';

/** Queues offered: more threads of the guest than this gain nothing from queues of their own. */
const MAX_QUEUES = 4;

const ALERTS: Readonly<Record<Alert, string>> = {
  'duplicate-gref': 'frontend uses a persistent gref twice at a time; the second use is mapped by itself',
  'grant-overflow': 'frontend uses more persistent grants than are kept; the others are mapped per request',
  'no-memory': 'no memory for bounce pages on this host: requests that need them fail',
};

export interface BlockBackendOptions {
  readonly store: StoreClient;
  readonly ports: BackendPorts;
  readonly handles: GuestHandles;
  readonly domid: number;
  readonly vdev: VirtualDevice;
  /** Raw image or block device. */
  readonly path: string;
  /** The image already open, if it is; the backend closes it. */
  readonly image?: DiskImage;
  readonly readonly?: boolean;
  readonly cdrom?: boolean;
  readonly removable?: boolean;
  /** The operator's own QEMU has the image open too. */
  readonly sharedWithQemu?: boolean;
  /** False keeps DISCARD from being offered. */
  readonly discard?: boolean;
  /** Bytes, where they are not to be those of the file or device. */
  readonly sectorSize?: number;
  /** O_DIRECT. */
  readonly direct?: boolean;
  readonly maxQueues?: number;
  /** Queues a thread serves; otherwise one serves all. Nothing to a storage daemon, which has one connection. */
  readonly queuesPerWorker?: number;
  /** Offers persistent grants; mapping is cheaper here than the copies they cost the guest, so the default is not to. */
  readonly persistent?: boolean;
  /** What a frontend that names no protocol speaks; Linux's blkback takes x86_32, and so do we. */
  readonly defaultProtocol?: ProtocolName;
  readonly log: Log;
  /** The device is gone, after a detach or because the guest removed its end. */
  removed?(): void;
  /** The worker died: its number in the grant table, for GrantTable.forgetThread. */
  threadLost?(thread: number): void;
}

export interface BlockBackend {
  readonly name: string;
  readonly device: BackendDevice;
  stats(): BlockStatistics;
  report(): BlockReport;
  /** Sectors of 512 bytes, logical sector size and the like, as the guest sees them. */
  readonly target: Target;
  /** @returns the size in bytes @throws OperatorError as resizeImage, and BLOCK_NOT_CONNECTED */
  resize(request: ResizeRequest): Promise<number>;
  /** Free bounce pages each queue keeps from now on, 0 to 2^31. @throws OperatorError BLOCK_VALUE */
  setMaxBufferPages(pages: number): Promise<void>;
  readonly maxBufferPages: number;
  /** Guest RAM has a new layout. */
  remap(ram: readonly RamRange[]): Promise<void>;
  /** The machine is being reset: waits for requests in flight and gives back everything of the guest's. */
  letGo(): Promise<void>;
  /** After `letGo`: the device is in the store as on the first day. */
  restart(): void;
  /** Asks the guest to let go; `removed` follows when it has. Forced: takes the frontend's end away from it at once. */
  detach(force?: boolean): void;
  /** Waits for requests in flight, ends the worker, closes the image and removes the device from the store. */
  close(): Promise<void>;
}

/** @throws OperatorError when the image is not usable (image.ts), or the host has no io_uring (IO_URING) */
export function createBlockBackend(options: BlockBackendOptions): BlockBackend {
  const problem = uringProblem();
  if (problem !== undefined) {
    throw new OperatorError(
      'IO_URING',
      `this host offers no io_uring (${problem})`,
      'use Linux 5.11 or later with kernel.io_uring_disabled = 0',
      3,
    );
  }
  const image = options.image ?? openImage(options.path, {
    readonly: options.readonly ?? false,
    ...(options.sharedWithQemu === undefined ? {} : { sharedWithQemu: options.sharedWithQemu }),
    ...(options.discard === undefined ? {} : { discard: options.discard }),
    direct: options.direct === true,
    ...(options.sectorSize === undefined ? {} : { sectorSize: options.sectorSize }),
  });
  return new BlockDriver(options, image);
}

class BlockDriver implements BlockBackend {
  readonly name: string;
  readonly #id: DeviceId;
  readonly #limits: NegotiationLimits;
  readonly #statistics: SharedArrayBuffer;
  readonly #workers: DiskWorkers;
  #device: BackendDevice;
  #machine: DeviceMachine<VbdEffect>;
  /** Event channels of the connection; empty when there is none. */
  #ports: BackendPort[] = [];
  #connected = false;
  #maxBufferPages = MAX_BUFFER_PAGES;
  #closing: Promise<void> | undefined;
  #resizing: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly options: BlockBackendOptions,
    private readonly image: DiskImage,
  ) {
    const { store, domid } = options;
    const { name, number } = options.vdev;
    this.name = name;
    this.#id = { kind: 'vbd', domid, id: number };
    this.#limits = {
      maxQueues: mostQueues(image, options.maxQueues ?? Math.min(MAX_QUEUES, availableParallelism())),
      defaultProtocol: options.defaultProtocol ?? 'x86_32-abi',
    };
    this.#statistics = statisticsBuffer(this.#limits.maxQueues);
    this.#workers = this.#startWorkers();
    this.#device = new BackendDevice(store, this.#id, options.log.child({ vbd: name }));
    this.#machine = this.#begin();
  }

  get device(): BackendDevice {
    return this.#device;
  }

  stats(): BlockStatistics {
    return readStatistics(this.#statistics);
  }

  report(): BlockReport {
    return readReport(this.#statistics);
  }

  get target(): Target {
    return this.image.target;
  }

  resize(request: ResizeRequest): Promise<number> {
    const resized = this.#resizing.then(() => this.#resize(request));
    this.#resizing = resized.catch(() => {});
    return resized;
  }

  async #resize(request: ResizeRequest): Promise<number> {
    const connected = (): boolean => this.#connected && this.#device.state === XenbusState.Connected;
    if (!connected()) {
      throw new OperatorError('BLOCK_NOT_CONNECTED', `the guest is not connected to ${this.name}`,
        'resize it when the guest has its driver loaded');
    }
    const { image, options } = this;
    const before = image.target.sectors;
    const bytes = await resizeImage(options.path, image, request, (sectors) => this.#workers.ask({ kind: 'resize', sectors }));
    const sectors = String(image.target.sectors);
    // A frontend that has left meanwhile reads the size when it comes back; its state is not touched (E74).
    if (image.target.sectors !== before && connected()) this.#device.republish({ sectors });
    return bytes;
  }

  get maxBufferPages(): number {
    return this.#maxBufferPages;
  }

  async setMaxBufferPages(pages: number): Promise<void> {
    if (!(Number.isInteger(pages) && pages >= 0 && pages <= MOST_BUFFER_PAGES)) {
      throw new OperatorError('BLOCK_VALUE', `max-buffer-pages cannot be ${pages}`, `use a whole number from 0 to ${MOST_BUFFER_PAGES}`);
    }
    await this.#workers.ask({ kind: 'max-buffer-pages', pages });
    this.#maxBufferPages = pages;
  }

  async remap(ram: readonly RamRange[]): Promise<void> {
    await this.#workers.ask({ kind: 'remap', ram });
  }

  async letGo(): Promise<void> {
    await this.#machine.stop();
    await this.#disconnect();
  }

  restart(): void {
    if (this.#closing !== undefined) return;
    this.#device = new BackendDevice(this.options.store, this.#id, this.#device.log);
    this.#machine = this.#begin();
  }

  detach(force = false): void {
    requestDetach(this.options.store, this.#id);
    if (force) this.options.store.remove(this.#device.frontendPath);
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    await this.letGo();
    await this.#workers.close();
    await this.image.close();
    removeDevice(this.options.store, this.#id);
  }

  /** Puts the device into the store and waits for a frontend. */
  #begin(): DeviceMachine<VbdEffect> {
    const device = this.#device;
    this.#populate();
    device.publish(offers(this.#limits.maxQueues));
    device.switchState(XenbusState.InitWait);
    const machine = new DeviceMachine(device, nextVbd, {
      perform: (effect) => (effect === 'connect' ? this.#connect() : this.#disconnect()),
      failed: () => this.#disconnect(),
      removed: () => {
        void this.close().then(() => this.options.removed?.());
      },
    });
    machine.start();
    return machine;
  }

  /** The toolstack's part. */
  #populate(): void {
    const { options, image } = this;
    const type = options.cdrom === true ? 'cdrom' : 'disk';
    const device = image.physicalDevice;
    createDevice(
      options.store,
      this.#id,
      {
        removable: options.removable === true || options.cdrom === true ? '1' : '0',
        bootable: '1',
        dev: this.name,
        type: device === undefined ? 'file' : 'phy',
        mode: image.target.readonly ? 'r' : 'w',
        'device-type': type,
        'discard-enable': image.target.discardGranularity === undefined ? '0' : '1',
        params: options.path,
        ...(device === undefined ? {} : { 'physical-device': device }),
      },
      { 'virtual-device': String(this.#id.id), 'device-type': type, trusted: '1' },
    );
  }

  async #connect(): Promise<void> {
    const { options } = this;
    const device = this.#device;
    const frontend = readFrontend(device, this.#limits);
    const persistent = options.persistent === true && frontend.persistent;
    try {
      for (const { eventChannel } of frontend.queues) {
        this.#ports.push(options.ports.bindInterdomain(options.domid, eventChannel));
      }
      await this.#workers.connect({
        protocol: frontend.protocol,
        persistent,
        queues: frontend.queues.map(({ ringRefs }, i) => ({
          ringRefs,
          kickFd: this.#ports[i]!.kickFd,
          callFd: this.#ports[i]!.callFd,
        })),
      });
    } catch (error) {
      this.#closePorts();
      throw error;
    }
    this.#connected = true;
    const cdrom = options.cdrom === true;
    const removable = options.removable === true || cdrom;
    device.publish(diskKeys(this.image.target, { cdrom, removable, persistent: options.persistent === true }));
    device.log.info({ protocol: frontend.protocol, queues: frontend.queues.length, persistent }, 'frontend connected');
  }

  /** In the order of spec B3: requests in flight, event channels, rings. Harmless when not connected. */
  async #disconnect(): Promise<void> {
    if (!this.#connected) return;
    this.#connected = false;
    try {
      await this.#workers.ask({ kind: 'drain' });
      this.#closePorts();
      await this.#workers.ask({ kind: 'release' });
    } finally {
      this.#closePorts();
    }
  }

  #closePorts(): void {
    for (const port of this.#ports.splice(0)) port.close();
  }

  #startWorkers(): DiskWorkers {
    const { options, image } = this;
    return new DiskWorkers({
      name: `vbd-${options.domid}-${this.name}`,
      count: workersOf(image, this.#limits.maxQueues, options.queuesPerWorker),
      settings: { guest: options.handles, place: image.place, target: image.target, statistics: this.#statistics },
      log: options.log,
      event: (event) => {
        this.#tell(event);
      },
      lost: (thread) => {
        this.#lost(thread);
      },
    });
  }

  #tell(event: Exclude<WorkerEvent, { kind: 'attached' }>): void {
    if (event.kind === 'target') reportTarget(this.#device.log, this.image, event.news);
    else if (event.kind === 'alert') this.#device.log.warn({ queue: event.queue }, ALERTS[event.alert]);
    else this.#device.log.warn({ queue: event.queue }, 'frontend overran its ring, which is not served any more');
  }

  /** Our own bug: this disk ends here, with all its workers; the guest's others go on. */
  #lost(thread: number | undefined): void {
    this.#connected = false;
    this.#device.fatal(Errno.EIO, 'internal error');
    if (thread !== undefined) this.options.threadLost?.(thread);
    // The other workers still listen on the ports.
    void this.#workers.close().then(() => {
      this.#closePorts();
    });
  }
}
