/** The disks of a guest while it runs: those it was started with, those attached since, and what is asked of them. */
import { createBlockBackend, type BlockBackend, type BlockBackendOptions } from '../../backends/block/driver.js';
import type { ResizeRequest } from '../../backends/block/resize.js';
import type { VirtualDevice } from '../../backends/block/virtual-device.js';
import type { RamRange } from '../../kvm/bridge.js';
import { XenbusState } from '../../shim/abi/io/xenbus.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import type { BlockStat } from '../control/block-stat.js';
import type { DiskOption } from './disk-option.js';
import { place, type DiskPart } from './disk-part.js';
import { notUp } from './not-up.js';

/** ms a guest gets to let go of a disk, as libxl has it. */
const DETACH_MS = 10_000;

/** What all disks of a guest have in common, as the guest is now. */
export type BlockSurroundings = Pick<BlockBackendOptions, 'store' | 'ports' | 'handles' | 'domid' | 'log' | 'threadLost'>;

/** One row of `block list`. */
export interface BlockStatus {
  readonly vdev: string;
  /** The frontend's device number. */
  readonly number: number;
  readonly file: string;
  /** Bytes. */
  readonly size: number;
  readonly sectorSize: number;
  readonly mode: 'r' | 'w';
  readonly type: 'disk' | 'cdrom';
  /** xenbus states by name. */
  readonly state: string;
  readonly frontend: string;
}

interface Disk {
  readonly part: DiskPart;
  backend: BlockBackend | undefined;
  /** The operator asked for its end. */
  leaving: boolean;
}

export class BlockDevices {
  readonly #disks = new Map<number, Disk>();
  #surroundings: (() => BlockSurroundings) | undefined;
  /** The machine is being reset: no disk is anybody's. */
  #between = false;

  constructor(
    parts: readonly DiskPart[],
    private readonly open: (option: DiskOption, vdev: VirtualDevice) => Promise<DiskPart>,
    private readonly log: Log,
  ) {
    for (const part of parts) this.#disks.set(part.vdev.number, { part, backend: undefined, leaving: false });
  }

  /** The guest is there. @param surroundings as they are at each call */
  start(surroundings: () => BlockSurroundings): void {
    this.#surroundings = surroundings;
    for (const disk of this.#disks.values()) disk.backend = this.#create(disk.part);
  }

  list(): BlockStatus[] {
    return [...this.#disks.values()].map(({ part, backend }) => ({
      vdev: part.vdev.name,
      number: part.vdev.number,
      file: part.path,
      size: part.image.target.sectors * 512,
      sectorSize: part.image.target.sectorSize,
      mode: part.image.target.readonly ? 'r' : 'w',
      type: part.option.cdrom ? 'cdrom' : 'disk',
      state: stateName(backend?.device.state),
      frontend: stateName(backend?.device.frontendState()),
    }));
  }

  /** Resolves to its name. @throws OperatorError NOT_UP, VDEV_USED, or as opening its image */
  async attach(option: DiskOption): Promise<string> {
    const vdev = this.#place(option);
    const part = await this.open(option, vdev);
    try {
      // Another one may have come, or the machine gone, while this one was opened.
      this.#place({ ...option, vdev });
      this.#disks.set(vdev.number, { part, backend: this.#create(part), leaving: false });
    } catch (error) {
      await part.image.close();
      throw error;
    }
    return vdev.name;
  }

  /** Resolves when the disk is gone. @throws OperatorError BLOCK_UNKNOWN, NOT_UP, BLOCK_IN_USE */
  async detach(name: string, force: boolean): Promise<void> {
    const disk = this.#find(name);
    const backend = this.#up(disk);
    disk.leaving = true;
    backend.detach(force);
    const until = Date.now() + DETACH_MS;
    while (this.#disks.get(disk.part.vdev.number) === disk) {
      if (Date.now() > until) throw inUse(name, backend.device.frontendState());
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** @returns bytes. @throws OperatorError BLOCK_UNKNOWN, NOT_UP, or as BlockBackend.resize */
  resize(name: string, request: (bytes: number) => ResizeRequest): Promise<number> {
    const disk = this.#find(name);
    return this.#up(disk).resize(request(disk.part.image.target.sectors * 512));
  }

  /** Of one disk or all. @throws OperatorError BLOCK_UNKNOWN, NOT_UP */
  stat(name?: string): BlockStat[] {
    if (this.#surroundings === undefined) return notUp();
    const disks = name === undefined ? [...this.#disks.values()] : [this.#find(name)];
    return disks.flatMap(({ backend }) =>
      backend === undefined ? [] : [{ vdev: backend.name, maxBufferPages: backend.maxBufferPages, ...backend.report() }]);
  }

  /** @throws OperatorError BLOCK_UNKNOWN, NOT_UP, BLOCK_VALUE */
  setMaxBufferPages(name: string, pages: number): Promise<void> {
    return this.#up(this.#find(name)).setMaxBufferPages(pages);
  }

  async remap(ram: readonly RamRange[]): Promise<void> {
    await Promise.all(this.#backends().map((backend) => backend.remap(ram)));
  }

  async letGo(): Promise<void> {
    this.#between = true;
    await Promise.allSettled(this.#backends().map((backend) => backend.letGo()));
  }

  /** After `letGo`: a guest that comes up anew finds every disk but those it was to give up. */
  restart(): void {
    this.#between = false;
    for (const { backend, leaving, part } of this.#disks.values()) {
      if (!leaving) backend?.restart();
      else void backend?.close().then(() => this.#drop(part));
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#backends().map((backend) => backend.close()));
  }

  #backends(): BlockBackend[] {
    return [...this.#disks.values()].flatMap(({ backend }) => backend ?? []);
  }

  #place(option: DiskOption): VirtualDevice {
    if (this.#surroundings === undefined || this.#between) return notUp();
    return place(option, [...this.#disks.values()].map(({ part }) => part.vdev));
  }

  #up({ backend }: Disk): BlockBackend {
    return this.#between || backend === undefined ? notUp() : backend;
  }

  #find(name: string): Disk {
    const disk = [...this.#disks.values()].find(({ part: { vdev } }) => vdev.name === name || String(vdev.number) === name);
    if (disk === undefined) {
      const names = [...this.#disks.values()].map(({ part }) => part.vdev.name);
      throw new OperatorError('BLOCK_UNKNOWN', `the guest has no disk ${name}`,
        names.length === 0 ? 'attach one first' : `choose one of ${names.join(', ')}`);
    }
    return disk;
  }

  #create(part: DiskPart): BlockBackend {
    const { vdev, path, image, option } = part;
    return createBlockBackend({
      ...this.#surroundings!(),
      vdev,
      path,
      image,
      readonly: option.readonly,
      cdrom: option.cdrom,
      removable: option.removable === true,
      persistent: option.persistent === true,
      ...(option.queues === undefined ? {} : { maxQueues: option.queues }),
      ...(option.queuesPerWorker === undefined ? {} : { queuesPerWorker: option.queuesPerWorker }),
      removed: () => {
        this.#drop(part);
      },
    });
  }

  #drop({ vdev }: DiskPart): void {
    this.#disks.delete(vdev.number);
    this.log.info({ vbd: vdev.name }, 'the disk is gone');
  }
}

function inUse(name: string, frontend: number): OperatorError {
  return frontend === XenbusState.Initialising
    ? new OperatorError('BLOCK_IN_USE', `no driver in the guest answers for ${name}`, 'say --force')
    : new OperatorError('BLOCK_IN_USE', `the guest does not let go of ${name}`,
        'unmount it in the guest, it leaves by itself then; or say --force');
}

const NAMES = new Map<number, string>(Object.entries(XenbusState).map(([name, state]) => [state, name]));

const stateName = (state: number | undefined): string =>
  state === undefined ? 'Unknown' : (NAMES.get(state) ?? String(state));
