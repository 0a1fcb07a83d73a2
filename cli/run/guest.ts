/**
 * One guest put together: the domain, its store and console, and a backend for each of its devices. It comes into being
 * with the guest's first hypercall, when memory and vCPUs are there, and again after each reset of the machine.
 */
import { randomUUID } from 'node:crypto';
import type { VirtualDevice } from '../../backends/block/virtual-device.js';
import { createConsole, type ConsoleBackend } from '../../backends/console/console.js';
import type { Bridge, HypercallExit, RamRange } from '../../kvm/bridge.js';
import { native, type Watcher } from '../../kvm/native.js';
import type { DomainConfig } from '../../shim/domain/config.js';
import { Domain } from '../../shim/domain/domain.js';
import { Dispatcher } from '../../shim/hypercall/dispatch.js';
import { ShutdownReason } from '../../shim/abi/sched.js';
import { startPaging } from '../../shim/domain/paging.js';
import type { Pager } from '../../shim/memory/pager.js';
import type { Log } from '../../shim/observe/log.js';
import { createGuestHome, removeGuestHome } from '../../shim/xenstore/guest-home.js';
import type { Xenstore } from '../../shim/xenstore/xenstore.js';
import type { BackendPart } from './backend-option.js';
import { BlockDevices } from './block-devices.js';
import { DOMID } from './domid.js';
import type { DiskOption } from './disk-option.js';
import type { DiskPart } from './disk-part.js';
import { NetDevices } from './net-devices.js';
import { OtherBackends } from './other-backends.js';
import type { PagingPart } from './page-file.js';
import type { VifPart } from './vif-part.js';

export interface GuestParts {
  readonly bridge: Bridge;
  readonly name: string;
  /** Bytes. */
  readonly memory: number;
  /** Bytes of it that the guest is to use from the start; otherwise all. */
  readonly memoryTarget?: number;
  readonly vcpus: number;
  readonly disks: readonly DiskPart[];
  /** Opens one that is attached later. @throws OperatorError */
  readonly openDisk: (option: DiskOption, vdev: VirtualDevice) => Promise<DiskPart>;
  readonly vifs: readonly VifPart[];
  /** Of `--backend`. */
  readonly backends: readonly BackendPart[];
  /** What Xen offers this guest. */
  readonly domain?: Partial<DomainConfig>;
  /** Of `--page-to`. */
  readonly paging?: PagingPart;
  /** The machine cannot go on: it is to end at once. */
  readonly lost: () => void;
  readonly console: Parameters<typeof createConsole>[0]['io'];
  readonly xenstore: Xenstore;
  readonly log: Log;
}

/** What all backends have in common: they outlive a reset of the machine. */
interface PvBackend {
  remap(ram: readonly RamRange[]): Promise<void>;
  letGo(): Promise<void>;
  restart(): void;
  close(): Promise<void>;
}

export type GuestState = 'starting' | 'running' | 'shutdown';

export class Guest {
  readonly uuid = randomUUID();
  readonly block: BlockDevices;
  readonly net: NetDevices;
  readonly #others: OtherBackends;
  readonly #parts: GuestParts;
  #domain: Domain | undefined;
  #dispatcher: Dispatcher | undefined;
  #storeWatch: Watcher | undefined;
  #console: Promise<ConsoleBackend> | undefined;
  /** The disks are one of them, the network interfaces another, those of `--backend` the third. */
  #backends: readonly PvBackend[] = [];
  #pager: Pager | undefined;
  #closed = false;
  #shutDown = false;

  constructor(parts: GuestParts) {
    this.#parts = parts;
    this.block = new BlockDevices(parts.disks, parts.openDisk, parts.log);
    this.net = new NetDevices(parts.vifs, parts.log);
    this.#others = new OtherBackends(parts.backends, parts.log);
    parts.bridge.listen({
      hypercall: (exit) => this.#hypercall(exit),
      reset: () => {
        this.#dispatcher?.reset();
        return this.#domain?.reset();
      },
      ramChanged: () => this.#domain?.ramChanged(),
      closed: () => parts.log.debug({}, 'the machine is gone'),
    });
  }

  get state(): GuestState {
    if (this.#domain === undefined) return 'starting';
    return this.#shutDown ? 'shutdown' : 'running';
  }

  /** Undefined without `--page-to`, and before the guest has found Xen. */
  get pager(): Pager | undefined {
    return this.#pager;
  }

  /** Asks the guest as `xl shutdown` does. False if its drivers have not come up yet. */
  control(request: 'poweroff' | 'reboot'): boolean {
    if (this.#domain === undefined) return false;
    this.#parts.xenstore.client.write(`/local/domain/${DOMID}/control/shutdown`, request);
    return true;
  }

  /** Ends backends, console and domain. QEMU may be gone already. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#parts.log.debug({ counts: Object.fromEntries(this.#dispatcher?.counts ?? []) }, 'hypercalls');
    await this.#letGo();
    await Promise.allSettled(this.#backends.map((backend) => backend.close()));
    await this.#console?.then((open) => open.close(), () => {});
    this.#pager?.close();
    this.#domain?.close();
  }

  #hypercall(exit: HypercallExit): number | undefined {
    if (this.#closed) return undefined;
    this.#dispatcher ??= this.#appear();
    return this.#dispatcher.dispatch(exit);
  }

  /** The guest has found Xen: all that it may look for from here on has to be there. */
  #appear(): Dispatcher {
    const { bridge, name, log } = this.#parts;
    const uuid = Buffer.from(this.uuid.replaceAll('-', ''), 'hex');
    const domain = new Domain({ bridge, config: { ...this.#parts.domain, name, domid: DOMID, uuid }, log });
    this.#domain = domain;
    this.#pager = this.#startPager(domain);
    domain.onLetGo(() => this.#letGo());
    domain.on('reset', () => this.#furnish(domain));
    domain.on('shutdown', () => {
      this.#shutDown = true;
      this.#parts.xenstore.shutDown();
    });
    domain.on('ramChanged', () => {
      const { ram } = domain.handles();
      for (const backend of this.#backends) {
        backend.remap(ram).catch((error: unknown) => log.error({ error: String(error) }, 'a backend lost its memory'));
      }
    });
    this.#furnish(domain);
    log.info({ domid: DOMID, vcpus: bridge.vcpus().length }, 'the guest has found Xen');
    return new Dispatcher(domain);
  }

  /** Before any other thread is there: from here on frames come and go. */
  #startPager(domain: Domain): Pager | undefined {
    const { paging, lost, log } = this.#parts;
    if (paging === undefined) return undefined;
    const failed = (): void => {
      domain.shutdown(ShutdownReason.crash);
      // A vCPU that waits for a page does not even hear that the machine has crashed.
      lost();
    };
    try {
      return startPaging(domain, { ...paging, log, failed });
    } catch (error) {
      log.error({ error: String(error) }, 'the memory of this guest cannot be paged: the guest is ended');
      failed();
      return undefined;
    }
  }

  /** Home, rings and devices, as a toolstack makes them before the guest's first instruction. */
  #furnish(domain: Domain): void {
    const { xenstore, name, memory, memoryTarget = memory, vcpus, log } = this.#parts;
    this.#shutDown = false;
    const { store, console } = domain;
    createGuestHome(xenstore.client, {
      domid: DOMID,
      name,
      uuid: this.uuid,
      memoryKib: memory / 1024,
      targetKib: memoryTarget / 1024,
      vcpus,
      store: { port: store.port.remotePort, gfn: store.gfn },
      console: { port: console.port.remotePort, gfn: console.gfn },
    });
    const ring = xenstore.introduce(DOMID, store, () => native.eventfdSignal(store.port.callFd));
    this.#storeWatch = native.watchReadable(store.port.kickFd, () => {
      native.eventfdDrain(store.port.kickFd);
      ring.serve();
    });
    const channel = { page: console, kickFd: console.port.kickFd, callFd: console.port.callFd };
    if (this.#console !== undefined) {
      void this.#console.then((open) => open.restart(channel), () => {});
      for (const backend of this.#backends) backend.restart();
      return;
    }
    this.#console = createConsole({ ...channel, io: this.#parts.console, log: log.child({ device: 'console' }) });
    this.#console.catch((error: unknown) => log.error({ error: String(error) }, 'the console cannot be opened'));
    this.#backends = this.#createBackends(domain);
  }

  #createBackends(domain: Domain): PvBackend[] {
    const { xenstore, log } = this.#parts;
    const fixed = {
      store: xenstore.client,
      ports: domain.ports,
      domid: DOMID,
      threadLost: (thread: number) => {
        domain.grantTable.forgetThread(thread);
      },
    };
    const common = () => ({ ...fixed, handles: domain.handles(), log });
    this.block.start(common);
    this.net.start(common);
    this.#others.start({ ...fixed, handles: () => domain.handles(), attached: domain.attached });
    return [this.block, this.net, this.#others];
  }

  /** Nobody of ours touches the guest's memory afterwards. */
  async #letGo(): Promise<void> {
    this.#storeWatch?.close();
    this.#storeWatch = undefined;
    const console = this.#console?.then((open) => open.letGo(), () => {});
    await Promise.allSettled([console, ...this.#backends.map((backend) => backend.letGo())]);
    this.#parts.xenstore.release(DOMID);
    removeGuestHome(this.#parts.xenstore.client, { domid: DOMID, uuid: this.uuid });
  }
}
