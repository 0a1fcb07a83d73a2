/** An eventfd as a doorbell inside an io_uring: a multishot poll whose completions wake the loop along with the disk's. */
import { native } from '../../kvm/native.js';
import { CQE_MORE, UringOp } from './uring.js';
import type { IoUring } from './uring.js';

/** IORING_POLL_ADD_MULTI. */
const POLL_MULTISHOT = 1;
/** POLLIN | EPOLLET: one completion per ring of the bell, without reading the counter each time. */
const EDGE_IN = 1 | (1 << 31);

export class Doorbell {
  /** The kernel watches the descriptor. */
  armed = false;
  #cancelled = false;

  /** @param userLo with `userHi`, what its completions carry */
  constructor(
    private readonly uring: IoUring,
    readonly fd: number,
    private readonly userLo: number,
    private readonly userHi: number,
  ) {}

  /**
   * Watches, from the next submission on. Rings before that are forgotten: look at the ring after arming. While a
   * cancellation is under way nothing happens; its completion is the time to try again.
   */
  arm(): void {
    if (this.armed) return;
    native.eventfdDrain(this.fd);
    this.uring.push(
      UringOp.POLL_ADD, 0, this.fd, 0, 0, 0, 0, POLL_MULTISHOT, EDGE_IN, this.userLo, this.userHi,
    );
    this.armed = true;
    this.#cancelled = false;
  }

  /**
   * Stops watching; `armed` falls when the last completion has come in.
   * @param userLo with `userHi`, what the cancellation's own completion carries
   */
  cancel(userLo: number, userHi: number): void {
    if (!this.armed || this.#cancelled) return;
    this.#cancelled = true;
    // Not POLL_REMOVE: that one gives up (EALREADY) on a poll which is just reporting an event, and leaves it alive.
    this.uring.push(UringOp.ASYNC_CANCEL, 0, -1, 0, 0, this.userLo, this.userHi, 0, 0, userLo, userHi);
  }

  /** Takes a completion's flags and result; true if the bell was rung, false if it was the end of the watch. */
  completed(flags: number, result: number): boolean {
    if ((flags & CQE_MORE) === 0) this.armed = false;
    return result > 0;
  }
}
