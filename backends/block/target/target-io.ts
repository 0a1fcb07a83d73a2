/**
 * The narrow place between a disk's queues and where its bytes go. One class of it per worker, so that every call is
 * monomorphic; a request is named by its tag, and everything else is read from the records.
 */
import type { Records } from '../records.js';

/** A queue as the target sees it. */
export interface CompletionSink {
  /** The phase under way of the record is done: bytes moved (0 for a flush or discard), or a negative Linux errno. */
  complete(tag: number, result: number): void;
}

export interface TargetIo {
  /** What is in flight completes as entries of the io_uring, which has to be entered to learn of it. */
  readonly completesInRing: boolean;
  /** Phases that can be submitted before `push`. */
  readonly room: number;
  /** A connection begins with these queues, in the order of their indexes, and their records; or ends, with none. */
  attach(queues: readonly { readonly sink: CompletionSink; readonly records: Records }[]): void;
  /** Starts the lowest phase of a record. */
  submit(queue: number, records: Records, tag: number): void;
  /** Makes what was submitted known to the other side. */
  push(): void;
  /** Hands on the completions there are, but for those the loop finds in io_uring itself; returns how many. */
  poll(): number;
  /** Before sleeping: the next completion will wake the ring. False if there is one already. */
  arm(): boolean;
  /** The connection is ending: no more is taken, and what is in flight shall end in good time. */
  draining(): void;
  /** Guest RAM has a new layout. */
  remap(): void;
  /** The worker ends; nothing is in flight. */
  close(): void;
  /** A completion in io_uring of an entry the target pushed for itself, with `TARGET_USER` in its high word. */
  completed(userLo: number, flags: number, result: number): void;
}

/** High word of a target's own entries. */
export const TARGET_USER = -4;
