/**
 * The connection to a back end, kept up for as long as it is wanted: lost, it is made again. Connecting never waits for
 * anybody: the listening socket is ours and outlives the daemon, a connection stands in its queue until there is one that
 * accepts, and the answer to our first question wakes the ring like any completion.
 */
import { arena } from '../../../../shim/io/memory.js';
import { connectTo, hangUp } from '../../../../shim/io/unix-stream.js';
import { UringOp } from '../../../../shim/io/uring.js';
import type { IoUring } from '../../../../shim/io/uring.js';
import { TARGET_USER } from '../target-io.js';
import { meetDevice } from './device.js';
import type { VhostDevice } from './device.js';
import { Message, VhostChannel } from './protocol.js';

/** Kinds of entries in the ring, the low bits of their user word; above them, a number that tells old ones. */
export const Entry = Object.freeze({ CALL: 0, SOCKET: 1, TIMER: 2, DRAIN: 3 } as const);
export const ENTRY_BITS = 2;

/** POLLIN | POLLRDHUP. */
const READABLE = 1 | 0x2000;
/** ms until another attempt after one that failed: doubled each time. */
const FIRST_DELAY = 50;
const LONGEST_DELAY = 2000;

export interface SessionParts {
  readonly uring: IoUring;
  readonly placeFd: number;
  /** The back end answered: does the second half of the negotiation. May throw: the connection is given up then. */
  up(channel: VhostChannel, device: VhostDevice): void;
  /** The connection that was up is gone. */
  down(): void;
  /** A negotiation failed; another attempt follows. Told once until one succeeds. */
  trouble(text: string): void;
}

export class VhostSession {
  #channel: VhostChannel | undefined;
  #up = false;
  #wanted = false;
  #troubled = false;
  #delay = FIRST_DELAY;
  #socketNumber = 0;
  #timerNumber = 0;
  readonly #times = arena(64);

  constructor(private readonly parts: SessionParts) {}

  /** Wants a connection from now on. */
  open(): void {
    this.#wanted = true;
    this.#delay = FIRST_DELAY;
    this.#connect();
  }

  /** Ends the connection: whatever the back end still has, it finishes before it accepts another one. */
  close(): void {
    this.#wanted = false;
    this.#hangUp();
    this.#timerNumber++;
  }

  /** Ends the connection and makes another. */
  restart(): void {
    if (!this.#wanted) return;
    this.#hangUp();
    this.#connect();
  }

  release(): void {
    this.close();
    this.#times.free();
  }

  /** The socket had something to say, or the timer ran out. */
  completed(entry: number, number: number): void {
    if (entry === Entry.TIMER) {
      if (number === this.#timerNumber && this.#wanted && this.#channel === undefined) this.#connect();
    } else if (number === this.#socketNumber && this.#channel !== undefined) {
      if (this.#up) this.#lost();
      else this.#negotiate(this.#channel);
    }
  }

  /** Completes in `ms`. One timer of an entry at a time: the kernel reads the time only when it is submitted. */
  startTimer(entry: number, number: number, ms: number): void {
    const { lo, hi, i32 } = this.#times;
    i32[4 * entry] = Math.floor(ms / 1000);
    i32[4 * entry + 2] = (ms % 1000) * 1e6;
    const user = entry | (number << ENTRY_BITS);
    this.parts.uring.push(UringOp.TIMEOUT, 0, -1, 0, 0, lo + 16 * entry, hi, 1, 0, user, TARGET_USER);
  }

  #connect(): void {
    try {
      this.#channel = new VhostChannel(connectTo(this.parts.placeFd));
      this.#channel.send(Message.GET_FEATURES);
    } catch (error) {
      this.#failed(error as Error);
      return;
    }
    this.#watch();
  }

  #negotiate(channel: VhostChannel): void {
    try {
      this.parts.up(channel, meetDevice(channel));
    } catch (error) {
      this.#failed(error as Error);
      return;
    }
    this.#up = true;
    this.#troubled = false;
    this.#delay = FIRST_DELAY;
    this.#watch();
  }

  /** The back end says nothing by itself: when it does, it is to say good-bye. */
  #lost(): void {
    this.#hangUp();
    this.parts.down();
    if (this.#wanted) this.#connect();
  }

  #failed(error: Error): void {
    this.#hangUp();
    if (!this.#troubled) this.parts.trouble(error.message);
    this.#troubled = true;
    this.startTimer(Entry.TIMER, ++this.#timerNumber, this.#delay);
    this.#delay = Math.min(2 * this.#delay, LONGEST_DELAY);
  }

  #hangUp(): void {
    if (this.#channel !== undefined) hangUp(this.#channel.fd);
    this.#channel = undefined;
    this.#up = false;
    this.#socketNumber++;
  }

  #watch(): void {
    const user = Entry.SOCKET | (this.#socketNumber << ENTRY_BITS);
    this.parts.uring.push(UringOp.POLL_ADD, 0, this.#channel!.fd, 0, 0, 0, 0, 0, READABLE, user, TARGET_USER);
  }
}
