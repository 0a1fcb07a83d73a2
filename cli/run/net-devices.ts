/** The network interfaces of a guest while it runs: those it was started with, those attached since. */
import { createNetBackend, type NetBackend, type NetBackendChange, type NetBackendOptions, type NetBackendStats } from '../../backends/net/driver.js';
import type { RamRange } from '../../kvm/bridge.js';
import { XenbusState } from '../../shim/abi/io/xenbus.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import { notUp } from './not-up.js';
import type { VifOption } from './vif-option.js';
import { openVif, type VifPart } from './vif-part.js';

/** ms a guest gets to let go of an interface, as libxl has it. */
const DETACH_MS = 10_000;

/** What all interfaces of a guest have in common, as the guest is now. */
export type NetSurroundings = Pick<NetBackendOptions, 'store' | 'ports' | 'handles' | 'domid' | 'log' | 'threadLost'>;

/** One row of `net list`. */
export interface NetStatus {
  /** N of the guest's `device/vif/N`. */
  readonly index: number;
  readonly link: string;
  /** The host's interface, if there is one. */
  readonly interface: string;
  readonly mac: string;
  readonly mtu: string;
  readonly rate: string;
  /** Queues of the link. */
  readonly queues: number;
  readonly up: boolean;
  /** xenbus states by name. */
  readonly state: string;
  readonly frontend: string;
}

interface Vif {
  readonly part: VifPart;
  backend: NetBackend | undefined;
  /** The operator asked for its end. */
  leaving: boolean;
}

export class NetDevices {
  readonly #vifs = new Map<number, Vif>();
  #surroundings: (() => NetSurroundings) | undefined;
  /** The machine is being reset: no interface is anybody's. */
  #between = false;

  constructor(
    parts: readonly VifPart[],
    private readonly log: Log,
  ) {
    for (const part of parts) this.#vifs.set(part.index, { part, backend: undefined, leaving: false });
  }

  /** The guest is there. @param surroundings as they are at each call */
  start(surroundings: () => NetSurroundings): void {
    this.#surroundings = surroundings;
    for (const vif of this.#vifs.values()) vif.backend = this.#create(vif.part);
  }

  list(): NetStatus[] {
    return [...this.#vifs.values()].map(({ part: { index, link }, backend }) => ({
      index,
      link: link.description,
      interface: link.interfaceName ?? '',
      mac: backend?.mac ?? '',
      mtu: backend?.device.frontendKey('mtu') ?? '',
      rate: backend?.device.backendKey('rate') ?? '',
      queues: link.maxQueues ?? 1,
      up: backend?.up ?? true,
      state: stateName(backend?.device.state),
      frontend: stateName(backend?.device.frontendState()),
    }));
  }

  /** By interface, or of one. @throws OperatorError NET_UNKNOWN, NOT_UP */
  stats(index?: number): { readonly index: number; readonly stats: NetBackendStats }[] {
    const vifs = index === undefined ? [...this.#vifs.values()] : [this.#find(index)];
    return vifs.map((vif) => ({ index: vif.part.index, stats: this.#up(vif).stats() }));
  }

  /** @returns its index. @throws OperatorError NOT_UP, or as openVif */
  attach(option: VifOption): number {
    const surroundings = this.#surroundings;
    if (surroundings === undefined || this.#between) return notUp();
    let index = 0;
    while (this.#vifs.has(index)) index++;
    const part = openVif(option, index, surroundings().domid, this.log);
    try {
      this.#vifs.set(index, { part, backend: this.#create(part), leaving: false });
    } catch (error) {
      part.link.close();
      void part.capture?.close();
      throw error;
    }
    return index;
  }

  /**
   * Resolves when the interface is gone.
   * @param force does not ask the guest
   * @throws OperatorError NET_UNKNOWN, NOT_UP, NET_IN_USE
   */
  async detach(index: number, force: boolean): Promise<void> {
    const vif = this.#find(index);
    const backend = this.#up(vif);
    vif.leaving = true;
    if (force) {
      await backend.close();
      this.#drop(vif.part);
      return;
    }
    backend.detach();
    const until = Date.now() + DETACH_MS;
    while (this.#vifs.get(index) === vif) {
      if (Date.now() > until) {
        throw new OperatorError('NET_IN_USE', `the guest does not let go of interface ${index}`, 'say --force');
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** @throws OperatorError NET_UNKNOWN, NOT_UP, or as NetBackend.set */
  set(index: number, change: NetBackendChange): void {
    this.#up(this.#find(index)).set(change);
  }

  async remap(ram: readonly RamRange[]): Promise<void> {
    await Promise.all(this.#backends().map((backend) => backend.remap(ram)));
  }

  async letGo(): Promise<void> {
    this.#between = true;
    await Promise.allSettled(this.#backends().map((backend) => backend.letGo()));
  }

  /** After `letGo`: a guest that comes up anew finds every interface but those it was to give up. */
  restart(): void {
    this.#between = false;
    for (const { backend, leaving, part } of this.#vifs.values()) {
      if (!leaving) backend?.restart();
      else void backend?.close().then(() => this.#drop(part));
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#backends().map((backend) => backend.close()));
  }

  #backends(): NetBackend[] {
    return [...this.#vifs.values()].flatMap(({ backend }) => backend ?? []);
  }

  #up({ backend }: Vif): NetBackend {
    return this.#between || backend === undefined ? notUp() : backend;
  }

  #find(index: number): Vif {
    const vif = this.#vifs.get(index);
    if (vif === undefined) {
      const known = [...this.#vifs.keys()].join(', ');
      throw new OperatorError('NET_UNKNOWN', `the guest has no interface ${index}`,
        known === '' ? 'attach one first' : `choose one of ${known}`);
    }
    return vif;
  }

  #create(part: VifPart): NetBackend {
    const { index, link, capture, option } = part;
    const { mac, rate, mtu } = option;
    return createNetBackend({
      ...this.#surroundings!(),
      index,
      link,
      ...(mac === undefined ? {} : { mac }),
      ...(rate === undefined ? {} : { rate }),
      ...(mtu === undefined ? {} : { mtu }),
      ...(capture === undefined ? {} : { capture }),
      removed: () => {
        this.#drop(part);
      },
    });
  }

  #drop(part: VifPart): void {
    if (this.#vifs.get(part.index)?.part !== part) return;
    this.#vifs.delete(part.index);
    this.log.info({ vif: part.index }, 'the interface is gone');
  }
}

const NAMES = new Map<number, string>(Object.entries(XenbusState).map(([name, state]) => [state, name]));

const stateName = (state: number | undefined): string =>
  state === undefined ? 'Unknown' : (NAMES.get(state) ?? String(state));
