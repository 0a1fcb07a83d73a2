/** A link as a queue's thread has it: reads and writes begun, their ends told. Which form does that depends on the descriptor. */
import { Errno } from '../../shim/abi/errno.js';
import type { IoUring } from '../../shim/io/uring.js';
import { VectorIo } from '../../shim/io/vector-io.js';
import type { Arena } from './arena.js';
import { PlainLink } from './plain-link.js';
import type { RxSource } from './rx-queue.js';
import type { TxSink } from './tx-queue.js';
import { UringLink } from './uring-link.js';

/** Told what became of frames sent: see TxQueue. */
export interface LinkWriter {
  sent(tag: number, result: number): void;
}

/** Told what became of reads: see RxQueue. */
export interface LinkReader {
  received(buffer: number, result: number, now: number): void;
  receivedDirect(index: number, result: number, now: number): void;
}

export interface VifLink extends TxSink, RxSource {
  /** One completion in the io_uring when there is a frame. */
  poll(): void;
  /** Tells of what has ended outside the io_uring. Returns how many of it moved something on. */
  take(tx: LinkWriter, rx: LinkReader, now: number): number;
}

export interface VifLinkOptions {
  readonly uring: IoUring;
  /** Registered file 0 of the io_uring. */
  readonly fd: number;
  /** As Link has it. */
  readonly waits: boolean;
  readonly plain: boolean;
  /** Room for a frame: one that is there already may be read, and is lost. */
  readonly scratch: Arena;
}

/** By io_uring where the descriptor takes reads and writes that are not to wait; taps do from Linux 6.4 on. */
export function openVifLink({ uring, fd, waits, plain, scratch }: VifLinkOptions): VifLink {
  const now = new VectorIo(fd);
  const refused = (): boolean => now.readOne(scratch.hva, scratch.u8.length) === -Errno.EOPNOTSUPP;
  // Links that wait are sockets, which have taken such requests all along.
  if (!waits && (plain || refused())) return new PlainLink(uring, new VectorIo(fd, true));
  return new UringLink(uring, now, waits);
}
