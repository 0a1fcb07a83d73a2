/** The link's side of a vif's io_uring, as its registered file 0; and past it, where a single frame is in a hurry. */
import { FIXED_FILE, UringOp } from '../../shim/io/uring.js';
import type { IoUring } from '../../shim/io/uring.js';
import type { VectorIo } from '../../shim/io/vector-io.js';
import type { VifLink } from './vif-link.js';

/** Which entry a completion belongs to, in the high word of its user data. */
export const Kind = Object.freeze({ TX: 1, RX: 2, LINK: 3, KICK: 4, BELL: 5, CANCEL: 6, DIRECT: 7 });

const POLLIN = 1;
/** RWF_NOWAIT: a link that is full or empty says so instead of keeping the entry. */
const RWF_NOWAIT = 8;
const HIGH = 2 ** 32;

/** One completion, of kind LINK, when the link has a frame. */
export function pollLink(uring: IoUring): void {
  uring.push(UringOp.POLL_ADD, FIXED_FILE, 0, 0, 0, 0, 0, 0, POLLIN, 0, Kind.LINK);
}

export class UringLink implements VifLink {
  /**
   * @param now with RWF_NOWAIT
   * @param waits whether a write that finds the link full waits for room
   */
  constructor(
    private readonly uring: IoUring,
    private readonly now: VectorIo,
    readonly waits: boolean,
  ) {}

  send(tag: number, address: number, count: number): void {
    this.#push(UringOp.WRITEV, address, count, this.waits ? 0 : RWF_NOWAIT, tag, Kind.TX);
  }

  sendPlain(tag: number, address: number, length: number): void {
    this.#push(UringOp.WRITE, address, length, this.waits ? 0 : RWF_NOWAIT, tag, Kind.TX);
  }

  sendNow(address: number, count: number): number {
    return this.now.write(address, count);
  }

  readNow(address: number, count: number): number {
    return this.now.read(address, count);
  }

  read(buffer: number, address: number, length: number): void {
    this.#push(UringOp.READ, address, length, RWF_NOWAIT, buffer, Kind.RX);
  }

  readv(index: number, address: number, count: number): void {
    this.#push(UringOp.READV, address, count, RWF_NOWAIT, index, Kind.DIRECT);
  }

  poll(): void {
    pollLink(this.uring);
  }

  /** The ring has them. */
  take(): number {
    return 0;
  }

  #push(opcode: number, address: number, length: number, rwFlags: number, lo: number, hi: number): void {
    this.uring.push(opcode, FIXED_FILE, 0, -1, -1, address | 0, (address / HIGH) | 0, length, rwFlags, lo, hi);
  }
}
