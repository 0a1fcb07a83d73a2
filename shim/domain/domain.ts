/**
 * A guest as Xen and its toolstack know it: memory map, event channels, grant table, parameters, vCPUs, and whether it
 * has shut down. It is driven by hypercalls (shim/hypercall) and by the machine (reset, memory changes).
 */
import { EventEmitter } from 'node:events';
import type { Bridge, RamRange } from '../../kvm/bridge.js';
import { native } from '../../kvm/native.js';
import { PORTS_FIFO } from '../abi/event-channel.js';
import { HvmParam } from '../abi/hvm-params.js';
import { ShutdownReason } from '../abi/sched.js';
import { Domid, Virq } from '../abi/xen.js';
import { EventAreas } from '../event-channel/areas.js';
import type { BackendPort } from '../event-channel/backend-port.js';
import { DomainBackendPorts } from '../event-channel/backend-ports.js';
import { Delivery } from '../event-channel/delivery.js';
import { EventChannels } from '../event-channel/event-channels.js';
import { KernelRoutes } from '../event-channel/kernel-routes.js';
import { createGrantState } from '../grant-table/state.js';
import type { GrantTable } from '../grant-table/table.js';
import { createFrames, type FrameHandles } from '../memory/frames.js';
import { attachGuest, type AttachedGuest, type GuestHandles } from '../memory/attach.js';
import { PAGE_SIZE, type GuestMemory } from '../memory/guest-memory.js';
import { P2m } from '../memory/p2m.js';
import type { Log } from '../observe/log.js';
import { CallbackIrq } from './callback.js';
import { SystemClock } from './clock.js';
import { DEFAULT_ON_SHUTDOWN, powerFor, type DomainConfig, type OnShutdown } from './config.js';
import { kvmResult } from './kvm-result.js';
import { LetGo } from './let-go.js';
import { FIRST_GRANT_PAGE, MAX_GRANT_FRAMES, OwnPage, OWN_PAGES, SpecialGfn } from './own-pages.js';
import { HvmParams } from './params.js';
import { Physmap } from './physmap.js';
import { Poller } from './poller.js';
import { SharedInfoPage } from './shared-info.js';
import { VcpuTimers } from './timers.js';
import { Vcpus } from './vcpus.js';
import { Watchdogs } from './watchdogs.js';

/** A ring page the toolstack set up before the guest runs. */
export interface SpecialRing {
  readonly u8: Uint8Array;
  /** Byte offset of the page in `u8`. */
  readonly offset: number;
  readonly gfn: number;
  /** Our end of its event channel; another one after every reset. */
  readonly port: BackendPort;
}

export interface DomainEvents {
  /** The machine was reset and all guest state is back to that of a fresh boot: rings and ports are new. */
  reset: [];
  /** The guest has shut itself down; the machine is told what to do. */
  shutdown: [reason: ShutdownReason];
  /** The guest asked for SUSPEND, was told that it is cancelled, and goes on. */
  suspendCancelled: [];
  /** The layout of guest RAM changed: threads that mapped it need `handles()` anew. */
  ramChanged: [];
  /** QEMU is gone. */
  closed: [];
}

export class Domain extends EventEmitter<DomainEvents> {
  readonly bridge: Bridge;
  readonly log: Log;
  readonly domid: number;
  readonly name: string;
  readonly uuid: Uint8Array;
  readonly clock: SystemClock;
  readonly p2m: P2m;
  readonly grantTable: GrantTable;
  readonly areas: EventAreas;
  readonly delivery: Delivery;
  readonly channels: EventChannels;
  readonly ports: DomainBackendPorts;
  readonly params = new HvmParams();
  readonly vcpus: Vcpus;
  readonly sharedInfo: SharedInfoPage;
  readonly physmap: Physmap;
  readonly callback: CallbackIrq;
  readonly timers: VcpuTimers;
  readonly watchdogs: Watchdogs;
  readonly poller: Poller;
  readonly #attached: AttachedGuest;
  readonly #grants: SharedArrayBuffer;
  readonly #frames: FrameHandles;
  readonly #routes: KernelRoutes;
  readonly #letGo: LetGo;
  readonly #onShutdown: OnShutdown;
  #latched: boolean | undefined;
  #shutdown: ShutdownReason | undefined;
  /** Machine resets so far: what waited through one belongs to a guest that is no more. */
  #resets = 0;
  #softReset: Promise<boolean> | undefined;
  #storePort: BackendPort | undefined;
  #consolePort: BackendPort | undefined;
  /** SCHEDOP_shutdown_code: what a later shutdown will be counted as. */
  shutdownCode: ShutdownReason | undefined;

  /** @param options.bridge with at least OWN_PAGES own pages; the caller forwards its events to the domain */
  constructor(options: { readonly bridge: Bridge; readonly config: DomainConfig; readonly log: Log }) {
    super();
    const { bridge, config, log } = options;
    if (bridge.own.pages < OWN_PAGES) throw new RangeError(`the bridge has fewer than ${OWN_PAGES} own pages`);
    this.bridge = bridge;
    this.log = log;
    this.domid = config.domid ?? 1;
    this.name = config.name;
    this.uuid = config.uuid ?? new Uint8Array(16);
    this.#onShutdown = config.onShutdown ?? DEFAULT_ON_SHUTDOWN;
    this.clock = new SystemClock(bridge);
    this.#letGo = new LetGo(log);
    this.#grants = createGrantState({
      maxFrames: Math.min(config.maxGrantFrames ?? MAX_GRANT_FRAMES, MAX_GRANT_FRAMES),
      maxVersion: config.maxGrantVersion ?? 1,
      ownPages: bridge.own.pages,
      firstOwnPage: FIRST_GRANT_PAGE,
    });
    this.#frames = createFrames(framesFor(bridge.ramRanges()));
    this.#attached = attachGuest(this.handles());
    this.grantTable = this.#attached.grantTable;
    this.p2m = new P2m(this.#attached.memory, this.#attached.own);
    this.areas = new EventAreas(this.p2m.ownPlace(OwnPage.SHARED_INFO), true);
    this.delivery = new Delivery(bridge, this.areas);
    this.#routes = new KernelRoutes(bridge, log);
    const channels = (): EventChannels => this.channels;
    this.vcpus = new Vcpus(bridge, this.p2m, this.areas, channels);
    this.channels = new EventChannels({
      domid: this.domid,
      maxPort: config.maxEventChannel ?? (config.eventChannels === 'fifo' ? PORTS_FIFO - 1 : 1023),
      fifo: config.eventChannels === 'fifo',
      delivery: this.delivery,
      routes: this.#routes,
      vcpuExists: (vcpu) => this.vcpus.exists(vcpu),
    });
    this.ports = new DomainBackendPorts(this.domid, this.channels);
    this.sharedInfo = new SharedInfoPage(bridge, this.p2m, this.areas, channels);
    this.physmap = new Physmap(bridge, this.p2m, this.grantTable, this.sharedInfo);
    this.callback = new CallbackIrq(bridge, this.areas, () => this.vcpus.hasVector(0), log);
    this.delivery.onRaise(() => this.callback.refresh());
    this.timers = new VcpuTimers(this.clock, (vcpu) => this.channels.raiseVirq(Virq.TIMER, vcpu));
    this.watchdogs = new Watchdogs(() => this.shutdown(ShutdownReason.watchdog));
    this.poller = new Poller(this.delivery, this.clock, (vcpu) => bridge.complete(vcpu, 0));
    this.#setUp();
  }

  /** What a thread needs to attach to this guest (shim/memory/attach.ts). */
  handles(): GuestHandles {
    const { fd, pages } = this.bridge.own;
    const ram = this.bridge.ramRanges();
    return { ram, own: { fd, pages }, grants: this.#grants, domid: this.domid, frames: this.#frames };
  }

  /** Guest RAM as the main thread sees it. */
  get memory(): GuestMemory {
    return this.#attached.memory;
  }

  /** Guest memory and grants of the main thread, for code that runs here. */
  get attached(): AttachedGuest {
    return this.#attached;
  }

  /** The xenstore ring. */
  get store(): SpecialRing {
    return this.#ring(OwnPage.STORE, SpecialGfn.STORE, this.#storePort!);
  }

  /** The console ring. */
  get console(): SpecialRing {
    return this.#ring(OwnPage.CONSOLE, SpecialGfn.CONSOLE, this.#consolePort!);
  }

  get shutdownReason(): ShutdownReason | undefined {
    return this.#shutdown;
  }

  /**
   * The guest's kernel was seen to be 64-bit or 32-bit: shared_info has that layout from now on, as Xen's
   * hvm_latch_shinfo_size has it. The kernel must know before it is told of shared_info.
   */
  latch(long: boolean): void {
    if (this.#latched === long) return;
    this.#latched = long;
    this.bridge.setLongMode(long);
    this.areas.long = long;
    this.channels.latch(this.areas.bits.ports);
    this.sharedInfo.rewrite();
  }

  /** A soft reset is carried out, and not one of the ways to end. */
  get softResets(): boolean {
    return this.#onShutdown.softReset === 'soft-reset';
  }

  /** The guest is done, or is made to be. Its vCPUs stay where they are; only the first reason counts. */
  shutdown(reason: ShutdownReason): void {
    if (this.#shutdown !== undefined) return;
    this.#shutdown = this.shutdownCode ?? reason;
    this.watchdogs.stopAll();
    this.timers.stopAll();
    this.log.info({ domid: this.domid, reason: this.#shutdown }, 'the guest has shut down');
    this.emit('shutdown', this.#shutdown);
    this.bridge.power(powerFor(this.#shutdown, this.#onShutdown));
  }

  /** Registers what has to happen before the memory of a guest that is reset may be used anew. Awaited in parallel. */
  onLetGo(hook: () => void | Promise<void>): () => void {
    return this.#letGo.add(hook);
  }

  /** The machine was reset: the kernel has forgotten everything, and so does the domain. */
  async reset(): Promise<void> {
    this.#resets++;
    this.#stopWaiting();
    this.#routes.forget();
    // A soft reset under way has backends let go, too; it ends there.
    await this.#softReset;
    await this.#letGo.run();
    this.#clear();
    this.#setUp();
    this.emit('reset');
  }

  /**
   * SHUTDOWN_soft_reset: the guest's kernel starts another one in the same machine (kexec). RAM stays; everything it
   * had set up with Xen goes. Asked again meanwhile, it is the same one.
   * @returns true when the caller's hypercall is to return 0; false when the machine was reset in the middle of it
   */
  softReset(): Promise<boolean> {
    this.#softReset ??= this.#resetSoftly().finally(() => (this.#softReset = undefined));
    return this.#softReset;
  }

  async #resetSoftly(): Promise<boolean> {
    const resets = this.#resets;
    // The vCPUs go on after this, so those that wait for an event find that they have waited long enough.
    this.poller.wakeAll();
    this.#stopWaiting();
    await this.#letGo.run();
    if (resets !== this.#resets) return false;
    this.channels.reset(Domid.SELF);
    this.sharedInfo.takeHome();
    for (const gfn of [...this.p2m.overlays()]) this.physmap.remove(gfn);
    const down = this.vcpus.allDown();
    for (const vcpu of this.bridge.vcpus()) {
      kvmResult(() => this.bridge.setVcpuInfo(vcpu, undefined));
      this.vcpus.setTimeArea(vcpu, undefined);
      this.vcpus.setRunstateArea(vcpu, undefined);
      this.vcpus.setVector(vcpu, 0);
    }
    this.callback.set(0n);
    this.#clear();
    for (const vcpu of down) this.vcpus.setDown(vcpu, true);
    this.#setUp();
    this.log.info({ domid: this.domid }, 'soft reset: the guest starts another kernel');
    this.emit('reset');
    return true;
  }

  /** Guest RAM has another layout. */
  ramChanged(): void {
    this.#attached.remap(this.bridge.ramRanges());
    this.emit('ramChanged');
  }

  /** Ends the domain: no timer and no mapping is left. QEMU may be gone already. */
  close(): void {
    this.#stopWaiting();
    this.callback.stop();
    this.#routes.forget();
    this.#storePort?.close();
    this.#consolePort?.close();
    this.grantTable.teardown();
    this.#attached.detach();
    native.closeFd(this.#frames.fd);
    native.closeFd(this.#frames.bell);
  }

  /** Back to the state of a fresh machine, as far as it is ours. */
  #clear(): void {
    this.#storePort?.close();
    this.#consolePort?.close();
    this.channels.reset(Domid.SELF);
    this.callback.stop();
    for (const gfn of [...this.p2m.overlays()]) {
      const page = this.p2m.lift(gfn)!;
      this.grantTable.showOwnPage(page, undefined);
    }
    this.sharedInfo.reset();
    this.grantTable.reset();
    this.vcpus.reset();
    // Last, for only what nobody holds any more can be had again.
    this.p2m.reset();
    this.params.reset();
    this.#latched = undefined;
    this.areas.reset(this.sharedInfo.home, true);
    this.#shutdown = undefined;
    this.shutdownCode = undefined;
  }

  /** What the toolstack does before the guest's first instruction. */
  #setUp(): void {
    this.#storePort = this.#specialRing(OwnPage.STORE, SpecialGfn.STORE, HvmParam.STORE_PFN, HvmParam.STORE_EVTCHN);
    this.#consolePort = this.#specialRing(
      OwnPage.CONSOLE,
      SpecialGfn.CONSOLE,
      HvmParam.CONSOLE_PFN,
      HvmParam.CONSOLE_EVTCHN,
    );
    this.grantTable.seedEntry(GrantRef.CONSOLE, Domid.BACKEND, SpecialGfn.CONSOLE);
    this.grantTable.seedEntry(GrantRef.STORE, Domid.BACKEND, SpecialGfn.STORE);
  }

  #specialRing(page: number, gfn: number, pfnParam: number, evtchnParam: number): BackendPort {
    const { u8, at } = this.p2m.ownPlace(page);
    u8.fill(0, at, at + PAGE_SIZE);
    const placed = this.physmap.showOwnPage(gfn, page);
    if (placed < 0) throw new Error(`no page can be shown to the guest at frame ${gfn.toString(16)}`);
    const port = this.ports.allocForGuest();
    this.params.set(pfnParam, gfn);
    this.params.set(evtchnParam, port.remotePort);
    return port;
  }

  #ring(page: number, gfn: number, port: BackendPort): SpecialRing {
    const { u8, at } = this.p2m.ownPlace(page);
    return { u8, offset: at, gfn, port };
  }

  /** Nobody waits for a time or an event any more. */
  #stopWaiting(): void {
    this.poller.reset();
    this.timers.stopAll();
    this.watchdogs.stopAll();
  }
}

/** Reserved grant entries (public/grant_table.h, GNTTAB_RESERVED_*). */
const GrantRef = Object.freeze({ CONSOLE: 0, STORE: 1 });

/** Frames with a word: up to the end of RAM, and room for memory added later. What is not used costs nothing. */
function framesFor(ram: readonly RamRange[]): number {
  return ram.reduce((end, { gfn, pages }) => Math.max(end, gfn + pages), 2 ** 24);
}
