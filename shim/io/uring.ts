/**
 * An io_uring driven from JavaScript: entries are written into the mapped submission ring, completions read from the
 * mapped completion ring, and one native call submits and waits (linux/io_uring.h). For the thread that made it only.
 */
import { native } from '../../kvm/native.js';
import type { NativeUring } from '../../kvm/native.js';

/** IORING_OP_*. */
export const UringOp = Object.freeze({
  READV: 1,
  WRITEV: 2,
  FSYNC: 3,
  POLL_ADD: 6,
  TIMEOUT: 11,
  ASYNC_CANCEL: 14,
  FALLOCATE: 17,
  READ: 22,
  WRITE: 23,
} as const);

/** IOSQE_FIXED_FILE: the entry names a registered file by its index. */
export const FIXED_FILE = 1;
/** IORING_FSYNC_DATASYNC. */
export const FSYNC_DATASYNC = 1;
/** IORING_CQE_F_MORE: the entry will complete again. */
export const CQE_MORE = 2;

/** Words of the native call's arguments and result. */
const TO_SUBMIT = 0;
const MIN_COMPLETE = 1;
const TIMEOUT_US = 2;
const RESULT = 3;
/** EINTR, EAGAIN, EBUSY (completions must be read first), ETIME: no harm done, come again. */
const TRANSIENT: ReadonlySet<number> = new Set([4, 11, 16, 62]);

/** Words of a completion after the first, which is the low half of its user data. */
export const CQE_USER_HI = 1;
export const CQE_RESULT = 2;
export const CQE_FLAGS = 3;

const SQE_WORDS_SHIFT = 4;
const CQE_WORDS_SHIFT = 2;

export class IoUring {
  /** Entries written and not yet handed to the kernel. */
  toSubmit = 0;
  private readonly native: NativeUring;
  /** The mapped completion ring, read at `completion(i)`. */
  readonly words: Int32Array;
  private readonly sqe: Int32Array;
  private readonly call: Int32Array;
  private readonly enterRing: () => void;
  private readonly sqTail: number;
  private readonly sqMask: number;
  private readonly cqHead: number;
  private readonly cqTail: number;
  private readonly cqMask: number;
  private readonly cqes: number;
  private tail: number;
  private head: number;

  /** @throws Error with errno ENOSYS, EPERM or ENOMEM when the kernel offers no usable io_uring */
  constructor(entries: number, completions: number) {
    this.native = new native.Uring(entries, completions);
    this.words = new Int32Array(this.native.ring);
    this.sqe = new Int32Array(this.native.sqes);
    this.call = new Int32Array(this.native.call);
    this.enterRing = this.native.enter;
    this.sqTail = this.native.sqTail >>> 2;
    this.sqMask = this.native.sqEntries - 1;
    this.cqHead = this.native.cqHead >>> 2;
    this.cqTail = this.native.cqTail >>> 2;
    this.cqMask = this.native.cqEntries - 1;
    this.cqes = this.native.cqes >>> 2;
    this.tail = this.words[this.sqTail]!;
    this.head = this.words[this.cqHead]!;
  }

  /** Completions the kernel holds without overflow. */
  get completionEntries(): number {
    return this.cqMask + 1;
  }

  /** Entries that can be pushed before a submission. */
  get room(): number {
    return this.sqMask + 1 - this.toSubmit;
  }

  registerFiles(fds: readonly number[]): void {
    this.native.registerFiles(fds);
  }

  /**
   * Writes one entry. 64-bit fields come as two words. A full ring is submitted first.
   * @param opFlags rw_flags, fsync_flags or poll events
   */
  push(
    opcode: number,
    flags: number,
    fd: number,
    offLo: number,
    offHi: number,
    addrLo: number,
    addrHi: number,
    length: number,
    opFlags: number,
    userLo: number,
    userHi: number,
  ): void {
    if (this.toSubmit > this.sqMask) this.makeRoom();
    const sqe = this.sqe;
    const at = (this.tail & this.sqMask) << SQE_WORDS_SHIFT;
    sqe[at] = opcode | (flags << 8);
    sqe[at + 1] = fd;
    sqe[at + 2] = offLo;
    sqe[at + 3] = offHi;
    sqe[at + 4] = addrLo;
    sqe[at + 5] = addrHi;
    sqe[at + 6] = length;
    sqe[at + 7] = opFlags;
    sqe[at + 8] = userLo;
    sqe[at + 9] = userHi;
    sqe[at + 10] = 0;
    sqe[at + 11] = 0;
    sqe[at + 12] = 0;
    sqe[at + 13] = 0;
    this.tail = (this.tail + 1) | 0;
    this.toSubmit++;
  }

  /**
   * Submits what was pushed, lets the kernel post completions, and waits for `minComplete` of them.
   * @param timeoutUs microseconds to wait at most; negative = no limit
   */
  enter(minComplete: number, timeoutUs: number): void {
    Atomics.store(this.words, this.sqTail, this.tail);
    const { call } = this;
    call[TO_SUBMIT] = this.toSubmit;
    call[MIN_COMPLETE] = minComplete;
    call[TIMEOUT_US] = timeoutUs > 0x7fff_ffff ? 0x7fff_ffff : timeoutUs;
    this.enterRing();
    const result = call[RESULT]!;
    if (result >= 0) this.toSubmit -= result;
    else if (!TRANSIENT.has(-result)) throw new Error(`io_uring_enter: errno ${-result}`);
  }

  /** Completions to be read. */
  completions(): number {
    return (Atomics.load(this.words, this.cqTail) - this.head) >>> 0;
  }

  /** Completion `i` of those `completions()` counted: its first word in `words` (CQE_* are the others). */
  completion(i: number): number {
    return this.cqes + (((this.head + i) & this.cqMask) << CQE_WORDS_SHIFT);
  }

  /** Fields of completion `i` of those `completions()` counted. */
  userLo(i: number): number {
    return this.words[this.completion(i)]!;
  }

  userHi(i: number): number {
    return this.words[this.completion(i) + CQE_USER_HI]!;
  }

  /** A count or a negative Linux errno. */
  result(i: number): number {
    return this.words[this.completion(i) + CQE_RESULT]!;
  }

  flags(i: number): number {
    return this.words[this.completion(i) + CQE_FLAGS]!;
  }

  /** Gives the first `count` completions back to the kernel. */
  consume(count: number): void {
    this.head = (this.head + count) | 0;
    Atomics.store(this.words, this.cqHead, this.head);
  }

  /** Unmaps and closes; requests in flight are cancelled by the kernel. Idempotent. Nothing may be called afterwards. */
  close(): void {
    this.native.close();
  }

  private makeRoom(): void {
    // Entries are consumed by the call itself; only a kernel out of memory leaves them, and then for a moment.
    for (let tries = 0; tries < 1000 && this.toSubmit > this.sqMask; tries++) this.enter(0, -1);
    if (this.toSubmit > this.sqMask) throw new Error('io_uring accepts no entries');
  }
}

/** Why this host offers no usable io_uring, or undefined if it does. */
export function uringProblem(): string | undefined {
  try {
    new native.Uring(1, 2).close();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
