/**
 * The event loop of a vif's worker: rings, link and control bell in one io_uring. While there is work it polls; then it
 * spins for a moment, as long as spinning pays; then it sleeps and costs nothing.
 */
import { Doorbell } from '../../shim/io/doorbell.js';
import { signalEventfd } from '../../shim/io/eventfd.js';
import type { IoUring } from '../../shim/io/uring.js';
import { Spin } from '../block/spin.js';
import type { Control } from '../worker-host.js';
import type { Credit } from './credit.js';
import type { VifChannels, VifReport } from './messages.js';
import type { Rate } from './rate.js';
import type { RxQueue } from './rx-queue.js';
import { Counter } from './stats.js';
import type { TxQueue } from './tx-queue.js';
import { Kind } from './uring-link.js';
import type { VifLink } from './vif-link.js';

/** A link that had nothing is asked again after this long while other work goes on, ms. */
const ASK_AGAIN_MS = 0.02;
/** Events without work in a row before the guest's bells are muted, and the longest they stay so (XSA-332). */
const SPURIOUS_LIMIT = 16;
const MAX_MUTE_MS = 1000;

export interface VifLoopOptions {
  readonly uring: IoUring;
  readonly link: VifLink;
  readonly tx: TxQueue;
  readonly rx: RxQueue;
  readonly channels: VifChannels;
  readonly control: Control;
  readonly credit: Credit;
  readonly counters: Float64Array;
  readonly report: (report: VifReport) => void;
  readonly now?: () => number;
}

export class VifLoop {
  readonly #uring: IoUring;
  readonly #link: VifLink;
  readonly #tx: TxQueue;
  readonly #rx: RxQueue;
  readonly #channels: VifChannels;
  readonly #control: Control;
  readonly #credit: Credit;
  readonly #counters: Float64Array;
  readonly #report: (report: VifReport) => void;
  readonly #now: () => number;
  readonly #kicks: readonly Doorbell[];
  readonly #bell: Doorbell;

  #linkPolled = false;
  #carrier = true;
  #disabled = false;
  readonly #spin = new Spin();
  /** The last pass found nothing to do, or what a peek had found. */
  #idle = false;
  /** When the link was last asked in vain, ms. */
  #askedAt = 0;
  #kicked = false;
  #spurious = 0;
  #mutedUntil = -Infinity;

  constructor(options: VifLoopOptions) {
    this.#uring = options.uring;
    this.#link = options.link;
    this.#tx = options.tx;
    this.#rx = options.rx;
    this.#channels = options.channels;
    this.#control = options.control;
    this.#credit = options.credit;
    this.#counters = options.counters;
    this.#report = options.report;
    this.#now = options.now ?? (() => performance.now());
    const { txKick, rxKick } = options.channels;
    const fds = txKick === rxKick ? [txKick] : [txKick, rxKick];
    this.#kicks = fds.map((fd, i) => new Doorbell(options.uring, fd, i, Kind.KICK));
    this.#bell = new Doorbell(options.uring, options.control.fd, 0, Kind.BELL);
  }

  /** Runs until the main thread wants something. */
  run(): void {
    while (!this.#control.wanted()) this.turn();
  }

  setRate(rate: Rate): void {
    this.#credit.limit(rate, this.#now());
  }

  /** One pass, and the spin or sleep after it if there was nothing to do. */
  turn(): void {
    const now = this.#now();
    if (this.pass(now)) {
      this.#spin.worked();
      return;
    }
    if (this.#disabled || !this.#spin.again(now)) this.#sleep(now);
  }

  /** Moves what there is to move; never waits. True if anything moved. */
  pass(now: number): boolean {
    const consumed = this.#tx.consume(now);
    const peeked = this.#askAgain(now, this.#idle && consumed === 0);
    this.#rx.fill(now);
    // What is submitted ends here and now; only where a frame is under way all the same is there more to wait for.
    if (this.#uring.toSubmit > 0 || this.#tx.inFlight > 0) this.#uring.enter(0, -1);
    const completed = this.#reap(now);
    const delivered = this.#rx.deliver(now);
    this.#publish();
    this.#watchHealth();
    const moved = consumed + completed + delivered;
    const worked = moved + peeked > 0;
    this.#judgeKicks(worked, now);
    // A frame that a peek has brought may have others behind it: those are asked for at once.
    this.#idle = moved === 0;
    return worked;
  }

  /**
   * A spin asks the link each time, which is quicker than to be told; other work is not held up that often. Returns how
   * many frames that has brought already.
   */
  #askAgain(now: number, spinning: boolean): number {
    if (!this.#rx.linkEmpty || (!spinning && now - this.#askedAt < ASK_AGAIN_MS)) return 0;
    this.#askedAt = now;
    if (spinning) return this.#rx.peek(now);
    this.#rx.readable();
    return 0;
  }

  /** A link that had nothing more is watched while we sleep. */
  #watchLink(): void {
    if (!this.#rx.linkEmpty || this.#linkPolled || this.#disabled) return;
    this.#link.poll();
    this.#linkPolled = true;
  }

  #publish(): void {
    const tx = this.#tx.flush();
    const rx = this.#rx.flush();
    const { txCall, rxCall } = this.#channels;
    if (tx || (rx && rxCall === txCall)) signalEventfd(txCall);
    if (rx && rxCall !== txCall) signalEventfd(rxCall);
  }

  /** Takes completions; returns how many moved something on. */
  #reap(now: number): number {
    const uring = this.#uring;
    const count = uring.completions();
    let moved = this.#link.take(this.#tx, this.#rx, now);
    for (let i = 0; i < count; i++) {
      const tag = uring.userLo(i);
      const result = uring.result(i);
      switch (uring.userHi(i)) {
        case Kind.TX:
          this.#tx.sent(tag, result);
          moved++;
          break;
        case Kind.RX:
          this.#rx.received(tag, result, now);
          if (result >= 0) moved++;
          break;
        case Kind.DIRECT:
          this.#rx.receivedDirect(tag, result, now);
          if (result >= 0) moved++;
          break;
        case Kind.LINK:
          // Work to come counts as work: the read is the next pass's.
          this.#linkPolled = false;
          this.#rx.readable();
          moved++;
          break;
        case Kind.KICK:
          if (this.#kicks[tag]!.completed(uring.flags(i), result)) this.#kicked = true;
          break;
        case Kind.BELL:
          this.#bell.completed(uring.flags(i), result);
          break;
      }
    }
    if (count > 0) uring.consume(count);
    return moved;
  }

  #watchHealth(): void {
    if (this.#disabled) return;
    if (this.#tx.disabled || this.#rx.disabled) {
      // One broken ring takes the other along: the vif is one device.
      const reason = this.#tx.disabled ? this.#tx.reason : this.#rx.reason;
      this.#disabled = this.#tx.disabled = this.#rx.disabled = true;
      this.#carrier = false;
      this.#mute();
      this.#report({ kind: 'disabled', reason });
      return;
    }
    const carrier = !this.#rx.stalled;
    if (carrier === this.#carrier) return;
    this.#carrier = carrier;
    this.#report({ kind: 'carrier', on: carrier });
  }

  /** A guest that rings without cause is listened to less and less; other vifs have threads of their own. */
  #judgeKicks(worked: boolean, now: number): void {
    if (worked) this.#spurious = 0;
    if (!this.#kicked) return;
    this.#kicked = false;
    if (worked) return;
    this.#counters[Counter.spuriousEvents]!++;
    this.#spurious++;
    const excess = this.#spurious - SPURIOUS_LIMIT;
    if (excess < 0) return;
    this.#mutedUntil = now + Math.min(2 ** excess, MAX_MUTE_MS);
    this.#mute();
  }

  #mute(): void {
    for (const kick of this.#kicks) kick.cancel(0, Kind.CANCEL);
  }

  #sleep(now: number): void {
    this.#rx.tick(now);
    this.#watchHealth();
    // Frames that were let go have made room for others.
    if (this.#rx.wants(now) > 0) return;
    const muted = this.#disabled || now < this.#mutedUntil;
    if (!muted) for (const kick of this.#kicks) kick.arm();
    this.#bell.arm();
    // The pass before may be the one that found the link empty.
    this.#watchLink();
    // Whoever wants us sets the word before ringing, and the bell is armed by now.
    if (this.#control.wanted()) return;
    // Both rings are asked, even if the first already has work: an event asked for needlessly does no harm.
    const txQuiet = this.#tx.armEvent();
    const rxQuiet = this.#rx.armEvent();
    if (!(txQuiet && rxQuiet)) return;
    let wakeAt = this.#disabled ? Infinity : Math.min(this.#tx.wakeAt, this.#rx.wakeAt);
    if (muted && !this.#disabled) wakeAt = Math.min(wakeAt, this.#mutedUntil);
    const wait = wakeAt - this.#now();
    if (wait <= 0) return;
    this.#spin.sleeping(now);
    this.#uring.enter(1, wait === Infinity ? -1 : Math.ceil(wait * 1000));
    this.#spin.awake(this.#now());
  }
}
