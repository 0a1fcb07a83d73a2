/**
 * A Bridge without KVM: guest RAM and own pages in memfds of this process, the kernel's part of event delivery played
 * on that memory, every call recorded, and hypercalls issued by the test as a vCPU with paging off (addresses are
 * guest-physical).
 */
import type {
  Bridge,
  BridgeEvents,
  HypercallExit,
  OwnPages,
  PowerAction,
  RamRange,
  RunstateTimes,
  SendRoute,
} from '../../kvm/bridge.js';
import { KvmError, KvmXenCap } from '../../kvm/bridge.js';
import { native, type Watcher } from '../../kvm/native.js';
import { Errno } from '../../shim/abi/errno.js';
import { deliver, EventBits, VcpuUpcall, type Place } from '../../shim/event-channel/two-level.js';
import { GuestMemory, PAGE_SIZE, ramWindow } from '../../shim/memory/guest-memory.js';

export interface FakeBridgeOptions {
  /** Ranges of RAM in pages; default one range of 1024 pages at frame 0. */
  readonly ram?: readonly { readonly gfn: number; readonly pages: number }[];
  readonly vcpus?: number;
  /** KVM_CAP_XEN_HVM; default everything. */
  readonly capabilities?: number;
  readonly ownPages?: number;
}

export interface IssueOptions {
  readonly vcpu?: number;
  readonly cpl?: number;
  readonly longMode?: boolean;
  readonly cr0?: bigint;
  readonly cr3?: bigint;
  readonly cr4?: bigint;
  readonly efer?: bigint;
}

export interface RecordedCall {
  readonly method: string;
  readonly args: readonly unknown[];
}

export const ALL_CAPABILITIES = Object.values(KvmXenCap).reduce((all, bit) => all | bit, 0);

export class FakeBridge implements Bridge {
  readonly capabilities: number;
  readonly own: OwnPages;
  readonly calls: RecordedCall[] = [];
  /** Own pages shown to the guest: gfn → page. */
  readonly placed = new Map<number, number>();
  /** The guest's RAM as the test sees it. */
  readonly memory: GuestMemory;
  readonly routes = new Map<number, SendRoute>();
  readonly irqfds = new Map<number, { port: number; vcpu: number; watcher: Watcher }>();
  readonly vcpuInfo = new Map<number, number>();
  readonly upcallVectors = new Map<number, number>();
  readonly timers = new Map<number, { port: number; expires: bigint }>();
  /** Upcalls the kernel would have injected, by vCPU. */
  readonly upcalls = new Map<number, number>();
  readonly gsi = new Map<number, boolean>();
  longMode = false;
  kernelPoll = true;
  sharedInfo: number | undefined;
  callbackVector = 0;
  clock = 1_000_000_000n;
  closed = false;
  /** Method → errno it fails with, to play a kernel that refuses. */
  readonly refuse = new Map<string, number>();
  readonly #ranges: RamRange[];
  readonly #vcpus: number[];
  #events: BridgeEvents | undefined;
  readonly #waiting = new Map<number, (result: number) => void>();
  readonly #ownView: Place;

  constructor(options: FakeBridgeOptions = {}) {
    const { ram = [{ gfn: 0, pages: 1024 }], vcpus = 2, ownPages = 80 } = options;
    this.capabilities = options.capabilities ?? ALL_CAPABILITIES;
    this.#vcpus = Array.from({ length: vcpus }, (_, id) => id);
    const pages = ram.reduce((sum, range) => sum + range.pages, 0);
    const fd = native.memfd('fake-ram', pages * PAGE_SIZE);
    let offset = 0;
    this.#ranges = ram.map((range) => {
      const result = { fd, offset, ...range };
      offset += range.pages * PAGE_SIZE;
      return result;
    });
    this.memory = new GuestMemory(
      this.#ranges.map((range) => {
        const { buffer, hva } = native.mapShared(range.fd, range.offset, range.pages * PAGE_SIZE, 0);
        return ramWindow(range.gfn, buffer, hva);
      }),
    );
    const ownFd = native.memfd('fake-own', ownPages * PAGE_SIZE);
    const { buffer } = native.mapShared(ownFd, 0, ownPages * PAGE_SIZE, 0);
    this.own = { fd: ownFd, pages: ownPages, buffer };
    this.#ownView = { u8: new Uint8Array(buffer), i32: new Int32Array(buffer), at: 0 };
  }

  vcpus(): number[] {
    return [...this.#vcpus];
  }

  ramRanges(): RamRange[] {
    return [...this.#ranges];
  }

  listen(events: BridgeEvents): void {
    this.#events = events;
  }

  complete(vcpu: number, result: number): void {
    this.#record('complete', vcpu, result);
    const answer = this.#waiting.get(vcpu);
    if (answer === undefined) throw new Error(`vCPU ${vcpu} is not waiting in a hypercall`);
    this.#waiting.delete(vcpu);
    answer(result);
  }

  setLongMode(on: boolean): void {
    this.#record('setLongMode', on);
    this.longMode = on;
  }

  setSharedInfo(gfn: number | undefined): void {
    this.#record('setSharedInfo', gfn);
    if (gfn !== undefined && this.locate(gfn) === undefined) throw new KvmError('SHARED_INFO', Errno.EINVAL);
    this.sharedInfo = gfn;
  }

  setCallbackVector(vector: number): void {
    this.#record('setCallbackVector', vector);
    this.callbackVector = vector;
  }

  setVcpuInfo(vcpu: number, gpa: number | undefined): void {
    this.#record('setVcpuInfo', vcpu, gpa);
    if (gpa === undefined) this.vcpuInfo.delete(vcpu);
    else this.vcpuInfo.set(vcpu, gpa);
  }

  setVcpuTimeInfo(vcpu: number, gpa: number | undefined): void {
    this.#record('setVcpuTimeInfo', vcpu, gpa);
  }

  setRunstateArea(vcpu: number, gpa: number | undefined): void {
    this.#record('setRunstateArea', vcpu, gpa);
  }

  setRunstateUpdateFlag(on: boolean): void {
    this.#record('setRunstateUpdateFlag', on);
  }

  getRunstate(vcpu: number): RunstateTimes {
    this.#record('getRunstate', vcpu);
    return { state: 0, stateEntryTime: 500n, time: [400n, 30n, 20n, 50n] };
  }

  setUpcallVector(vcpu: number, vector: number): void {
    this.#record('setUpcallVector', vcpu, vector);
    this.upcallVectors.set(vcpu, vector);
  }

  setTimer(vcpu: number, port: number, expires: bigint): void {
    this.#record('setTimer', vcpu, port, expires);
    if (port === 0) this.timers.delete(vcpu);
    else this.timers.set(vcpu, { port, expires });
  }

  systemTime(): bigint {
    return this.clock;
  }

  routeSend(port: number, route: SendRoute | undefined): void {
    this.#record('routeSend', port, route);
    if (route === undefined) this.routes.delete(port);
    else if (this.routes.has(port)) throw new KvmError('EVTCHN', Errno.EEXIST);
    else this.routes.set(port, route);
  }

  bindIrqfd(fd: number, port: number, vcpu: number): void {
    this.#record('bindIrqfd', fd, port, vcpu);
    const watcher = native.watchReadable(fd, () => {
      const bound = this.irqfds.get(fd);
      if (bound && native.eventfdDrain(fd) > 0) this.deliver(bound.port, bound.vcpu);
    });
    this.irqfds.set(fd, { port, vcpu, watcher });
  }

  moveIrqfd(fd: number, vcpu: number): void {
    this.#record('moveIrqfd', fd, vcpu);
    const bound = this.irqfds.get(fd);
    if (bound === undefined) throw new KvmError('moveIrqfd', Errno.ENOENT);
    bound.vcpu = vcpu;
  }

  unbindIrqfd(fd: number): void {
    this.#record('unbindIrqfd', fd);
    this.irqfds.get(fd)?.watcher.close();
    this.irqfds.delete(fd);
  }

  setKernelPoll(on: boolean): void {
    this.#record('setKernelPoll', on);
    this.kernelPoll = on;
  }

  raise(port: number, vcpu: number): void {
    this.#record('raise', port, vcpu);
    this.deliver(port, vcpu);
  }

  setGsi(gsi: number, level: boolean): void {
    this.#record('setGsi', gsi, level);
    this.gsi.set(gsi, level);
  }

  placeOwnPage(gfn: number, page: number): void {
    this.#record('placeOwnPage', gfn, page);
    if (this.memory.window(gfn) !== undefined || this.placed.has(gfn)) throw new KvmError('placeOwnPage', Errno.EEXIST);
    if (gfn >= 2 ** 40) throw new KvmError('placeOwnPage', Errno.EINVAL);
    this.placed.set(gfn, page);
  }

  removeOwnPage(gfn: number): void {
    this.#record('removeOwnPage', gfn);
    if (!this.placed.delete(gfn)) throw new KvmError('removeOwnPage', Errno.ENOENT);
  }

  power(action: PowerAction): void {
    this.#record('power', action);
  }

  /** Stops the fake's watchers, so that the test process can end, and closes its files. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#dropIrqfds();
    native.closeFd(this.#ranges[0]!.fd);
    native.closeFd(this.own.fd);
  }

  /** What the kernel does with an event: nothing unless it knows shared_info and the vCPU's vcpu_info. */
  deliver(port: number, vcpu: number): void {
    const info = this.vcpuInfo.get(vcpu);
    const shared = this.sharedInfo === undefined ? undefined : this.locate(this.sharedInfo);
    if (shared === undefined || info === undefined) return;
    const page = this.locate(Math.floor(info / PAGE_SIZE))!;
    const upcall = new VcpuUpcall({ ...page, at: page.at + (info % PAGE_SIZE) }, this.longMode);
    if (deliver(new EventBits(shared, this.longMode), upcall, port) !== 'raised') return;
    this.upcalls.set(vcpu, (this.upcalls.get(vcpu) ?? 0) + 1);
  }

  /** The memory the guest sees at a frame. */
  locate(gfn: number): Place | undefined {
    const page = this.placed.get(gfn);
    if (page !== undefined) return { ...this.#ownView, at: page * PAGE_SIZE };
    const window = this.memory.window(gfn);
    return window && { u8: window.u8, i32: window.i32, at: (gfn - window.gfn) * PAGE_SIZE };
  }

  /** Issues a hypercall as a vCPU; the promise settles when it is answered, maybe never. */
  issue(nr: number, args: readonly (number | bigint)[], options: IssueOptions = {}): Promise<number> {
    const exit = this.#exit(nr, args, options);
    return new Promise((resolve) => {
      this.#waiting.set(exit.vcpu, resolve);
      const result = this.#events!.hypercall(exit);
      if (result === undefined) return;
      this.#waiting.delete(exit.vcpu);
      resolve(result);
    });
  }

  /** Issues a hypercall that must be answered at once. */
  call(nr: number, args: readonly (number | bigint)[], options: IssueOptions = {}): number {
    const exit = this.#exit(nr, args, options);
    const result = this.#events!.hypercall(exit);
    if (result === undefined) throw new Error(`vCPU ${exit.vcpu} is left waiting in hypercall ${nr}`);
    return result;
  }

  /** EVTCHNOP_send as the guest sees it: the kernel's route, or false when it would come here as a hypercall. */
  kernelSend(port: number): boolean {
    const route = this.routes.get(port);
    if (route === undefined) return false;
    if (route.to === 'eventfd') native.eventfdSignal(route.fd);
    else this.deliver(route.port, route.vcpu);
    return true;
  }

  isWaiting(vcpu: number): boolean {
    return this.#waiting.has(vcpu);
  }

  /** Plays a reset of the machine: the kernel's side is empty again and nobody waits, then the shim is told. */
  async resetMachine(): Promise<void> {
    this.#waiting.clear();
    this.placed.clear();
    this.routes.clear();
    this.timers.clear();
    this.vcpuInfo.clear();
    this.upcallVectors.clear();
    this.#dropIrqfds();
    this.sharedInfo = undefined;
    this.callbackVector = 0;
    await this.#events?.reset();
  }

  /** Plays the loss of QEMU. */
  lose(): void {
    this.#waiting.clear();
    this.#dropIrqfds();
    this.#events?.closed();
  }

  /** Calls of one method, newest last. */
  callsOf(method: string): readonly (readonly unknown[])[] {
    return this.calls.filter((call) => call.method === method).map((call) => call.args);
  }

  #dropIrqfds(): void {
    for (const { watcher } of this.irqfds.values()) watcher.close();
    this.irqfds.clear();
  }

  #exit(nr: number, args: readonly (number | bigint)[], options: IssueOptions): HypercallExit {
    const { vcpu = 0, cpl = 0, longMode = true, cr0 = 0x11n, cr3 = 0n, cr4 = 0n, efer = 0n } = options;
    if (this.#events === undefined) throw new Error('nobody listens to the bridge');
    if (this.#waiting.has(vcpu)) throw new Error(`vCPU ${vcpu} is waiting in a hypercall already`);
    const registers = new BigUint64Array(6);
    args.forEach((arg, i) => (registers[i] = BigInt.asUintN(longMode ? 64 : 32, BigInt(arg))));
    return { vcpu, nr, args: registers, cpl, longMode, cr0, cr3, cr4, efer };
  }

  #record(method: string, ...args: unknown[]): void {
    this.calls.push({ method, args });
    const errno = this.refuse.get(method);
    if (errno !== undefined) throw new KvmError(method, errno);
  }
}
