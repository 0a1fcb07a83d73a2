/** The plugin's end of a bridge, played by a test: messages, and exit slots as kvm/plugin/hypercall.cc fills them. */
import { native } from '../../kvm/native.js';
import { NativeBridge } from '../../kvm/native-bridge.js';
import { layout, Op, SlotKind, SlotState } from '../../kvm/native-bridge-protocol.js';

const { header, slot, message: at } = layout;

export interface LogEntry {
  readonly level: number;
  readonly line: string;
}

/** A message as the plugin receives it. */
export interface Received {
  readonly op: number;
  readonly seq: number;
  readonly args: bigint[];
  readonly fds: number[];
}

export interface Call {
  readonly nr?: number;
  readonly args?: readonly bigint[];
  readonly cpl?: number;
  readonly longMode?: boolean;
  readonly cr0?: bigint;
  readonly cr3?: bigint;
  readonly cr4?: bigint;
  readonly efer?: bigint;
}

export interface Message {
  readonly op: number;
  readonly seq?: number;
  readonly result?: number;
  readonly args?: readonly (number | bigint)[];
  readonly text?: Uint8Array;
  readonly fds?: readonly number[];
}

export function sendMessage(fd: number, { op, seq = 0, result = 0, args = [], text, fds = [] }: Message): void {
  const bytes = new Uint8Array(at.SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(at.op, op, true);
  view.setUint32(at.seq, seq, true);
  view.setBigInt64(at.result, BigInt(result), true);
  args.forEach((arg, i) => view.setBigUint64(at.arg + 8 * i, BigInt.asUintN(64, BigInt(arg)), true));
  if (text !== undefined) bytes.set(text, at.text);
  native.channelSend(fd, bytes, fds);
}

/** Waits up to `timeout` ms; undefined when nothing came, null when the shim has closed its end. */
export function receiveMessage(fd: number, timeout: number): Received | undefined | null {
  const bytes = new Uint8Array(at.SIZE);
  const fds: number[] = [];
  const got = native.channelReceive(fd, bytes, timeout, fds);
  if (got === undefined || got === null) return got;
  const view = new DataView(bytes.buffer);
  return {
    op: view.getUint32(at.op, true),
    seq: view.getUint32(at.seq, true),
    args: Array.from({ length: 8 }, (_, i) => view.getBigUint64(at.arg + 8 * i, true)),
    fds,
  };
}

/** A bridge and the other end of it. */
export class Plugin {
  readonly log: LogEntry[] = [];
  readonly bridge: NativeBridge;
  readonly fd: number;
  /** The message the shim has answered the hello with. */
  init!: Received;
  memory!: ArrayBuffer;
  #words!: Int32Array;
  #view!: DataView;
  #ended = false;

  constructor(ownPages = 4, anyKvm = false) {
    this.bridge = new NativeBridge({
      ownPages,
      xenVersion: 0x4_0013,
      anyKvm,
      log: (level, line) => this.log.push({ level, line }),
    });
    this.fd = this.bridge.pluginFd;
  }

  /** Says hello and takes the bridge's memory over. */
  async connect(capabilities = 0): Promise<this> {
    this.send({ op: Op.Hello, args: [layout.version, capabilities, process.pid] });
    await this.bridge.connected;
    const init = this.receive();
    if (init === undefined || init === null) throw new Error('no answer to the hello');
    this.init = init;
    this.memory = native.mapShared(init.fds[0]!, 0, layout.sharedSize, 0).buffer;
    this.#words = new Int32Array(this.memory);
    this.#view = new DataView(this.memory);
    return this;
  }

  send(message: Message): void {
    sendMessage(this.fd, message);
  }

  receive(timeout = 1000): Received | undefined | null {
    return receiveMessage(this.fd, timeout);
  }

  headerWord(name: 'sleeping' | 'ram_generation' | 'spin_ns' | 'magic' | 'version'): number {
    return Atomics.load(this.#words, header[name] >> 2);
  }

  /** Marks a vCPU as existing. */
  create(vcpu: number): void {
    Atomics.or(this.#words, (header.created >> 2) + (vcpu >> 5), 1 << (vcpu & 31));
  }

  /** Fills a vCPU's slot, and rings if the shim sleeps. @returns whether it rang */
  post(vcpu: number, call: Call = {}, kind: number = SlotKind.hypercall): boolean {
    const base = header.SIZE + vcpu * slot.SIZE;
    const view = this.#view;
    view.setUint32(base + slot.kind, kind, true);
    view.setUint32(base + slot.nr, call.nr ?? 0, true);
    view.setUint32(base + slot.cpl, call.cpl ?? 0, true);
    view.setUint32(base + slot.long_mode, (call.longMode ?? true) ? 1 : 0, true);
    for (let i = 0; i < 6; i++) view.setBigUint64(base + slot.args + 8 * i, call.args?.[i] ?? 0n, true);
    for (const name of ['cr0', 'cr3', 'cr4', 'efer'] as const) {
      view.setBigUint64(base + slot[name], call[name] ?? 0n, true);
    }
    Atomics.store(this.#words, (base + slot.state) >> 2, SlotState.request);
    Atomics.or(this.#words, (header.pending >> 2) + (vcpu >> 5), 1 << (vcpu & 31));
    if (Atomics.exchange(this.#words, header.sleeping >> 2, 0) === 0) return false;
    native.eventfdSignal(this.init.fds[2]!);
    return true;
  }

  state(vcpu: number): number {
    return Atomics.load(this.#words, (header.SIZE + vcpu * slot.SIZE + slot.state) >> 2);
  }

  /** As the vCPU thread of a machine that has been reset: the request is no more. */
  drop(vcpu: number): void {
    Atomics.and(this.#words, (header.pending >> 2) + (vcpu >> 5), ~(1 << (vcpu & 31)));
    this.#setIdle(vcpu);
  }

  #setIdle(vcpu: number): void {
    Atomics.store(this.#words, (header.SIZE + vcpu * slot.SIZE + slot.state) >> 2, SlotState.idle);
  }

  /** The answer, if there is one; the slot is free again then. */
  take(vcpu: number): bigint | undefined {
    if (this.state(vcpu) !== SlotState.done) return undefined;
    const result = this.#view.getBigInt64(header.SIZE + vcpu * slot.SIZE + slot.result, true);
    this.#setIdle(vcpu);
    return result;
  }

  /** Waits for the answer. */
  async answer(vcpu: number): Promise<bigint> {
    const until = Date.now() + 5000;
    for (;;) {
      const result = this.take(vcpu);
      if (result !== undefined) return result;
      if (Date.now() > until) throw new Error(`vCPU ${vcpu} has no answer`);
      await nextTurn();
    }
  }

  /** Waits until the shim sleeps in its event loop. */
  async asleep(): Promise<void> {
    await until(() => this.headerWord('sleeping') !== 0);
  }

  /** Says where RAM is, as kvm/plugin/ram.cc does: the ranges, then the generation. `files` are new ones. */
  announce(
    generation: number,
    ranges: readonly { file: number; offset: number; gfn: number; pages: number }[],
    files: Readonly<Record<number, number>> = {},
  ): void {
    for (const [id, fd] of Object.entries(files)) this.send({ op: Op.RamFile, args: [Number(id)], fds: [fd] });
    this.send({ op: Op.RamBegin, args: [generation] });
    for (const { file, offset, gfn, pages } of ranges) {
      this.send({ op: Op.RamRange, args: [file, offset, BigInt(gfn) << 12n, BigInt(pages) << 12n] });
    }
    this.send({ op: Op.RamEnd, args: [generation] });
    Atomics.store(this.#words, header.ram_generation >> 2, generation);
  }

  /** The end of the QEMU process. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    native.closeFd(this.fd);
  }

  close(): void {
    this.end();
    for (const fd of this.init?.fds ?? []) native.closeFd(fd);
    this.bridge.close();
  }
}

export const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Waits until it is so. */
export async function until(so: () => boolean, timeout = 5000): Promise<void> {
  const end = Date.now() + timeout;
  while (!so()) {
    if (Date.now() > end) throw new Error('it has not come about');
    await nextTurn();
  }
}
