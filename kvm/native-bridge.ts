/** The bridge over a real plugin: exit slots in shared memory, everything else over the channel. */
import { ANY_KVM, BridgeClosed } from './bridge.js';
import type {
  Bridge, BridgeEvents, HypercallExit, OwnPages, PowerAction, RamRange, RamWatch, RunstateTimes, SendRoute,
} from './bridge.js';
import { Channel, type Notice } from './channel.js';
import { native, type Watcher } from './native.js';
import { layout, NONE, Op, Power, SlotKind, SlotState } from './native-bridge-protocol.js';

const { header, slot } = layout;

/** How long both sides spin before they sleep, ns. A hypercall is answered in a few microseconds when we are awake. */
const SPIN_NS = 20_000;
/** Exits answered in a row before the event loop gets its turn. */
const BURST = 64;
/** How long the guest's time is told from the host's clock, ns. */
const CLOCK_VALID_NS = 100_000_000n;

export interface NativeBridgeOptions {
  /** Pages of our own that the guest can be shown. */
  readonly ownPages: number;
  /** Version to report in CPUID: major << 16 | minor. */
  readonly xenVersion: number;
  /** KVM's Xen interfaces are done without: the plugin does in QEMU's process what ANY_KVM says. */
  readonly anyKvm?: boolean;
  /** The plugin's own lines; `level` as pino numbers them. */
  readonly log: (level: number, line: string) => void;
}

export class NativeBridge implements Bridge {
  readonly own: OwnPages;
  /** The socket end that QEMU inherits, as descriptor `XENSHIM_BRIDGE`. Close it after the process has started. */
  readonly pluginFd: number;
  /** Settles when the plugin has said hello: the host's KVM_CAP_XEN_HVM. */
  readonly connected: Promise<number>;

  readonly #channel: Channel;
  readonly #memory: ArrayBuffer;
  readonly #memoryFd: number;
  readonly #doorbell: number;
  readonly #words: Int32Array;
  readonly #view: DataView;
  readonly #watchers: Watcher[] = [];
  readonly #options: NativeBridgeOptions;
  readonly #files = new Map<number, number>();
  #capabilities = 0;
  #clockAt = -CLOCK_VALID_NS;
  /** ns by which the guest's system time is ahead of the host's clock. */
  #clockAhead = 0n;
  #sayHello: (capabilities: number) => void = () => {};
  #events: BridgeEvents | undefined;
  #ram: RamRange[] = [];
  #nextRam: RamRange[] = [];
  #ramGeneration = 0;
  readonly #mappings: RamWatch['mappings'][number][] = [];
  #watchFd = -1;
  #closed = false;
  #ended = false;
  #again: NodeJS.Immediate | undefined;

  constructor(options: NativeBridgeOptions) {
    this.#options = options;
    this.#memoryFd = native.memfd('xenshim-bridge', layout.sharedSize);
    const memory = native.mapShared(this.#memoryFd, 0, layout.sharedSize, 0);
    this.#memory = memory.buffer;
    this.#words = new Int32Array(this.#memory);
    this.#view = new DataView(this.#memory);
    this.#view.setUint32(header.magic, layout.magic, true);
    this.#view.setUint32(header.version, layout.version, true);
    this.#view.setUint32(header.sleeping, 1, true);
    this.#view.setUint32(header.spin_ns, SPIN_NS, true);

    const bytes = options.ownPages * 4096;
    const fd = native.memfd('xenshim-own', bytes);
    const own = native.mapShared(fd, 0, bytes, 0);
    this.own = { fd, pages: options.ownPages, buffer: own.buffer };

    this.#doorbell = native.eventfd();
    const [ours, theirs] = native.channelPair();
    this.#channel = new Channel(ours, () => this.#onMessages());
    this.pluginFd = theirs;
    this.connected = new Promise((resolve) => (this.#sayHello = resolve));
    this.#watchers.push(native.watchReadable(ours, () => this.#onMessages()));
    this.#watchers.push(
      native.watchReadable(this.#doorbell, () => {
        native.eventfdDrain(this.#doorbell);
        this.#serve();
      }),
    );
  }

  get capabilities(): number {
    return this.#capabilities;
  }

  listen(events: BridgeEvents): void {
    this.#events = events;
    // What came before anybody listened still waits.
    this.#serve();
  }

  vcpus(): number[] {
    const ids: number[] = [];
    for (let id = 0; id < layout.maxVcpus; id++) {
      const word = Atomics.load(this.#words, (header.created >> 2) + (id >> 5));
      if (((word >>> (id & 31)) & 1) !== 0) ids.push(id);
    }
    return ids;
  }

  ramRanges(): RamRange[] {
    return this.#ram;
  }

  complete(vcpu: number, result: number): void {
    const at = header.SIZE + vcpu * slot.SIZE;
    if (Atomics.load(this.#words, (at + slot.state) >> 2) !== SlotState.request) return;
    this.#view.setBigInt64(at + slot.result, BigInt(result), true);
    Atomics.store(this.#words, (at + slot.state) >> 2, SlotState.done);
    if (Atomics.load(this.#words, (at + slot.waiting) >> 2) !== 0) native.futexWake(this.#memory, at + slot.state);
  }

  // The request path -------------------------------------------------------------------------------------------------

  /** Answers what vCPUs wait for; stays a little longer for the next one; then lets the event loop sleep. */
  #serve(): void {
    for (let turn = 0; turn < BURST; turn++) {
      if (this.#closed || this.#events === undefined) return;
      if (this.#servePending()) continue;
      if (native.spinForRequest(this.#memory, SPIN_NS)) continue;
      Atomics.store(this.#words, header.sleeping >> 2, 1);
      if (!this.#anyPending()) return;
      Atomics.store(this.#words, header.sleeping >> 2, 0);
    }
    this.#again ??= setImmediate(() => {
      this.#again = undefined;
      this.#serve();
    });
  }

  #anyPending(): boolean {
    for (let word = 0; word < layout.maxVcpus / 32; word++) {
      if (Atomics.load(this.#words, (header.pending >> 2) + word) !== 0) return true;
    }
    return false;
  }

  #servePending(): boolean {
    let any = false;
    for (let word = 0; word < layout.maxVcpus / 32; word++) {
      const at = (header.pending >> 2) + word;
      if (this.#words[at] === 0) continue;
      let bits = Atomics.exchange(this.#words, at, 0);
      while (bits !== 0) {
        const bit = 31 - Math.clz32(bits & -bits);
        bits &= bits - 1;
        any = true;
        this.#answer(word * 32 + bit);
      }
    }
    return any;
  }

  #answer(vcpu: number): void {
    if (this.#closed) return;
    const at = header.SIZE + vcpu * slot.SIZE;
    if (Atomics.load(this.#words, (at + slot.state) >> 2) !== SlotState.request) return;
    // Memory the plugin announced before it posted must be known before the call is looked at.
    const generation = Atomics.load(this.#words, header.ram_generation >> 2);
    if (generation !== this.#ramGeneration) this.#onMessages();
    const view = this.#view;
    if (view.getUint32(at + slot.kind, true) === SlotKind.reset) {
      void this.#reset(vcpu);
      return;
    }
    const exit: HypercallExit = {
      vcpu,
      nr: view.getUint32(at + slot.nr, true),
      args: new BigUint64Array(this.#memory.slice(at + slot.args, at + slot.args + 48)),
      cpl: view.getUint32(at + slot.cpl, true),
      longMode: view.getUint32(at + slot.long_mode, true) !== 0,
      cr0: view.getBigUint64(at + slot.cr0, true),
      cr3: view.getBigUint64(at + slot.cr3, true),
      cr4: view.getBigUint64(at + slot.cr4, true),
      efer: view.getBigUint64(at + slot.efer, true),
    };
    const result = this.#events?.hypercall(exit);
    if (result !== undefined) this.complete(vcpu, result);
  }

  /** The new guest does not start before the shim and its backends have let go of the old one's memory. */
  async #reset(vcpu: number): Promise<void> {
    try {
      await this.#events?.reset();
    } finally {
      this.complete(vcpu, 0);
    }
  }

  // The message path -------------------------------------------------------------------------------------------------

  #onMessages(): void {
    if (this.#closed) return;
    for (const notice of this.#channel.drain()) this.#onNotice(notice);
    if (this.#channel.ended && !this.#ended && !this.#closed) {
      this.#ended = true;
      for (const watcher of this.#watchers) watcher.close();
      this.#events?.closed();
    }
  }

  #onNotice(notice: Notice): void {
    const { op, arg } = notice;
    switch (op) {
      case Op.Hello:
        this.#capabilities = this.#options.anyKvm === true ? ANY_KVM : Number(arg[1]);
        this.#channel.post(
          Op.Init,
          [layout.version, this.own.pages, this.#options.xenVersion, this.#options.anyKvm === true ? ANY_KVM : 0],
          [this.#memoryFd, this.own.fd, this.#doorbell],
        );
        this.#sayHello(this.#capabilities);
        break;
      case Op.RamBegin:
        this.#nextRam = [];
        break;
      case Op.RamFile:
        this.#files.set(Number(arg[0]), notice.fd);
        break;
      case Op.RamRange: {
        const fd = this.#files.get(Number(arg[0]));
        if (fd === undefined) break;
        this.#nextRam.push({ fd, offset: Number(arg[1]), gfn: Number(arg[2]! >> 12n), pages: Number(arg[3]! >> 12n) });
        break;
      }
      case Op.RamEnd:
        this.#ram = this.#nextRam;
        this.#ramGeneration = Number(arg[0]);
        this.#events?.ramChanged();
        break;
      case Op.RamMapping: {
        const fd = this.#files.get(Number(arg[0]));
        if (fd !== undefined) {
          this.#mappings.push({ fd, offset: Number(arg[1]), hva: Number(arg[2]), length: Number(arg[3]) });
        }
        break;
      }
      case Op.RamWatch:
        this.#watchFd = notice.fd;
        break;
      case Op.LogLine:
        this.#options.log(Number(arg[0]), notice.text);
        break;
      default:
        break;
    }
  }

  // Requests to the plugin -------------------------------------------------------------------------------------------

  setLongMode(on: boolean): void {
    this.#channel.call('LONG_MODE', Op.SetLongMode, [on ? 1 : 0]);
  }

  setSharedInfo(gfn: number | undefined): void {
    this.#channel.call('SHARED_INFO', Op.SetSharedInfo, [gfn ?? NONE]);
  }

  setCallbackVector(vector: number): void {
    this.#channel.call('UPCALL_VECTOR', Op.SetCallbackVector, [vector]);
  }

  setVcpuInfo(vcpu: number, gpa: number | undefined): void {
    this.#channel.call('VCPU_INFO', Op.SetVcpuInfo, [vcpu, gpa ?? NONE]);
  }

  setVcpuTimeInfo(vcpu: number, gpa: number | undefined): void {
    this.#channel.call('VCPU_TIME_INFO', Op.SetVcpuTimeInfo, [vcpu, gpa ?? NONE]);
  }

  setRunstateArea(vcpu: number, gpa: number | undefined): void {
    this.#channel.call('RUNSTATE_ADDR', Op.SetRunstateArea, [vcpu, gpa ?? NONE]);
  }

  setRunstateUpdateFlag(on: boolean): void {
    this.#channel.call('RUNSTATE_UPDATE_FLAG', Op.SetRunstateUpdate, [on ? 1 : 0]);
  }

  getRunstate(vcpu: number): RunstateTimes {
    const [state, entry, running, runnable, blocked, offline] = this.#channel.call('RUNSTATE', Op.GetRunstate, [vcpu]);
    return {
      state: Number(state),
      stateEntryTime: entry!,
      time: [running!, runnable!, blocked!, offline!],
    };
  }

  /** Asked of the kernel ten times a second at most: both clocks run alike, but only one is a message away. */
  systemTime(): bigint {
    const now = process.hrtime.bigint();
    if (now - this.#clockAt <= CLOCK_VALID_NS) return now + this.#clockAhead;
    const time = this.#channel.call('GET_CLOCK', Op.GetTime, [])[0]!;
    this.#clockAt = process.hrtime.bigint();
    this.#clockAhead = time - this.#clockAt;
    return time;
  }

  setUpcallVector(vcpu: number, vector: number): void {
    this.#channel.call('vCPU UPCALL_VECTOR', Op.SetUpcallVector, [vcpu, vector]);
  }

  setTimer(vcpu: number, port: number, expires: bigint): void {
    this.#channel.call('TIMER', Op.SetTimer, [vcpu, port, expires]);
  }

  routeSend(port: number, route: SendRoute | undefined): void {
    if (route === undefined) this.#channel.call('EVTCHN', Op.RouteSend, [port, 0]);
    else if (route.to === 'eventfd') this.#channel.call('EVTCHN', Op.RouteSend, [port, 1], [route.fd]);
    else this.#channel.call('EVTCHN', Op.RouteSend, [port, 2, route.port, route.vcpu]);
  }

  bindIrqfd(fd: number, port: number, vcpu: number): void {
    this.#channel.call('IRQFD', Op.BindIrqfd, [fd, port, vcpu], [fd]);
  }

  moveIrqfd(fd: number, vcpu: number): void {
    this.#channel.call('GSI_ROUTING', Op.MoveIrqfd, [fd, vcpu]);
  }

  unbindIrqfd(fd: number): void {
    this.#channel.call('IRQFD', Op.UnbindIrqfd, [fd]);
  }

  setKernelPoll(on: boolean): void {
    this.#channel.call('XEN_HVM_CONFIG', Op.SetKernelPoll, [on ? 1 : 0]);
  }

  raise(port: number, vcpu: number): void {
    this.#notify(Op.Raise, [port, vcpu]);
  }

  setGsi(gsi: number, level: boolean): void {
    this.#notify(Op.SetGsi, [gsi, level ? 1 : 0]);
  }

  placeOwnPage(gfn: number, page: number): void {
    this.#channel.call('SET_USER_MEMORY_REGION', Op.PlacePage, [gfn, page]);
  }

  removeOwnPage(gfn: number): void {
    this.#channel.call('SET_USER_MEMORY_REGION', Op.RemovePage, [gfn]);
  }

  watchRam(): RamWatch {
    this.#channel.call('userfaultfd', Op.WatchRam, []);
    // The mappings and the descriptor came before the reply.
    this.#onMessages();
    return { fd: this.#watchFd, mappings: this.#mappings };
  }

  power(action: PowerAction): void {
    this.#notify(Op.Power, [Power[action]]);
  }

  /** What nobody waits for. A machine that has just gone needs no interrupts: a timer of the guest's may still ring. */
  #notify(op: number, args: readonly (number | bigint)[]): void {
    try {
      this.#channel.post(op, args);
    } catch (error) {
      if (!(error instanceof BridgeClosed)) throw error;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#again !== undefined) clearImmediate(this.#again);
    for (const watcher of this.#watchers) watcher.close();
    this.#channel.close();
    native.closeFd(this.#doorbell);
    for (const fd of this.#files.values()) native.closeFd(fd);
    // The mappings stay until the process ends: views of them may still be held, and touching one would be fatal.
    native.closeFd(this.#memoryFd);
    native.closeFd(this.own.fd);
  }
}
