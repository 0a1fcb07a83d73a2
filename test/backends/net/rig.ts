/** A connected vif without a worker: queues and loop of the product, a fake frontend, and a socket pair as the link. */
import { native } from '../../../kvm/native.js';
import { openConnection } from '../../../backends/net/connection.js';
import type { Connection } from '../../../backends/net/connection.js';
import type { Offloads } from '../../../backends/net/link.js';
import { UNLIMITED } from '../../../backends/net/rate.js';
import type { Rate } from '../../../backends/net/rate.js';
import { VIF_MEMORY_BYTES } from '../../../backends/net/vif-memory.js';
import { arena } from '../../../shim/io/memory.js';
import { IoUring, UringOp } from '../../../shim/io/uring.js';
import { COUNTER_BYTES, readStats } from '../../../backends/net/stats.js';
import type { QueueStats } from '../../../backends/net/stats.js';
import type { VifLive, VifReport } from '../../../backends/net/messages.js';
import { FakeNetfront, RX_REF, TX_REF } from './fake-netfront.js';

const VNET = 12;
const RWF_NOWAIT = 8;
const MESSAGE_BYTES = 80_000;

export const ALL_OFFLOADS: Offloads = { csum4: true, csum6: true, tso4: true, tso6: true };

export interface RigOptions {
  readonly offloads?: Offloads;
  readonly scatterGather?: boolean;
  readonly notifies?: boolean;
  readonly rate?: Rate;
  readonly live?: Partial<VifLive>;
  readonly front?: FakeNetfront;
  /** The link by plain system calls. */
  readonly plain?: boolean;
}

/** A frame as it crosses the link. */
export interface LinkFrame {
  readonly header: DataView;
  readonly frame: Uint8Array;
}

/** The virtio-net header's fields a test sets. */
export interface VnetFields {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly gsoSize?: number;
  /** Where the checksum starts, and where its field is from there. */
  readonly start?: number;
  readonly offset?: number;
}

/** The host's end of a link: a SOCK_SEQPACKET socket keeps frames apart as a tap does. */
export class WireEnd {
  readonly #uring = new IoUring(8, 16);
  readonly #buffer = arena(MESSAGE_BYTES);

  constructor(readonly fd: number) {}

  /** The next frame the vif has sent, or undefined. */
  receive(): LinkFrame | undefined {
    const { lo, hi, i32 } = this.#buffer;
    const length = this.#move(UringOp.READ, lo, hi, MESSAGE_BYTES);
    if (length < 0) return undefined;
    const buffer = new Uint8Array(i32.buffer).slice(0, length);
    return {
      header: new DataView(buffer.buffer, 0, VNET),
      frame: buffer.subarray(VNET),
    };
  }

  /** Sends a frame to the vif; false if the link is full. */
  send(frame: Uint8Array, header: VnetFields = {}): boolean {
    const { lo, hi, i32 } = this.#buffer;
    const message = Buffer.from(i32.buffer, 0, VNET + frame.length).fill(0, 0, VNET);
    message.set(frame, VNET);
    message[0] = header.flags ?? 0;
    message[1] = header.gsoType ?? 0;
    message.writeUInt16LE(header.gsoSize ?? 0, 4);
    message.writeUInt16LE(header.start ?? 0, 6);
    message.writeUInt16LE(header.offset ?? 0, 8);
    return this.#move(UringOp.WRITE, lo, hi, message.length) >= 0;
  }

  #move(opcode: number, lo: number, hi: number, length: number): number {
    this.#uring.push(opcode, 0, this.fd, -1, -1, lo, hi, length, RWF_NOWAIT, 0, 0);
    this.#uring.enter(1, -1);
    const result = this.#uring.result(0);
    this.#uring.consume(1);
    return result;
  }

  close(): void {
    this.#uring.close();
    this.#buffer.free();
  }
}

export class Rig {
  readonly front: FakeNetfront;
  readonly wire: WireEnd;
  readonly connection: Connection;
  readonly reports: VifReport[] = [];
  /** The vif's clock, ms. */
  now = 1000;
  /** What the queues of a vif share. */
  readonly memory = new SharedArrayBuffer(VIF_MEMORY_BYTES);
  readonly #counters = new Float64Array(new SharedArrayBuffer(COUNTER_BYTES));
  readonly #fds: number[];
  readonly #ownFront: boolean;

  constructor(options: RigOptions = {}) {
    this.#ownFront = options.front === undefined;
    this.front = options.front ?? new FakeNetfront();
    const [linkFd, wireFd] = native.channelPair();
    const bellFd = native.eventfd();
    this.#fds = [linkFd, wireFd, bellFd];
    this.wire = new WireEnd(wireFd);
    const { kickFd, callFd } = this.front;
    try {
      this.connection = openConnection({
        grants: this.front.guest.grants,
        counters: this.#counters,
        memory: this.memory,
        control: { fd: bellFd, wanted: () => false },
        report: (report) => this.reports.push(report),
        params: {
          linkFd,
          linkWaits: false,
          linkPlain: options.plain ?? false,
          settings: { up: true, xdpHeadroom: 0, ...options.live },
          txRef: TX_REF,
          rxRef: RX_REF,
          channels: { txKick: kickFd, txCall: callFd, rxKick: kickFd, rxCall: callFd },
          offloads: options.offloads ?? ALL_OFFLOADS,
          scatterGather: options.scatterGather ?? true,
          notifies: options.notifies ?? true,
          rate: options.rate ?? UNLIMITED,
        },
        now: () => this.now,
      });
    } catch (error) {
      this.#closeRest();
      throw error;
    }
  }

  get stats(): QueueStats {
    return readStats(this.#counters);
  }

  /** Passes of the loop until nothing moves. */
  settle(): void {
    for (let quiet = 0, passes = 0; quiet < 3; passes++) {
      if (passes > 2000) throw new Error('the loop does not come to rest');
      quiet = this.connection.loop.pass(this.now) ? 0 : quiet + 1;
    }
    this.connection.rx.tick(this.now);
    this.connection.loop.pass(this.now);
  }

  /** Lets time go by in steps, with a pass each. */
  elapse(ms: number, step = ms): void {
    for (const end = this.now + ms; this.now < end; ) {
      this.now = Math.min(this.now + step, end);
      this.settle();
    }
  }

  close(): void {
    this.connection.close();
    this.#closeRest();
  }

  #closeRest(): void {
    this.wire.close();
    for (const fd of this.#fds) native.closeFd(fd);
    if (this.#ownFront) this.front.close();
  }
}

/** Runs `body` with a connected vif, and takes it down whatever happens. */
export function rigged(body: (rig: Rig) => void, options?: RigOptions): void {
  const rig = new Rig(options);
  try {
    body(rig);
  } finally {
    rig.close();
  }
}
