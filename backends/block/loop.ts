/**
 * The loop of a disk's worker: take requests, submit, reap, answer; poll a little, then sleep in io_uring_enter until
 * an event of the frontend, a completion or the main thread's bell. It returns only when the main thread wants something.
 */
import { performance } from 'node:perf_hooks';

import { Doorbell } from '../../shim/io/doorbell.js';
import { CQE_RESULT, CQE_USER_HI } from '../../shim/io/uring.js';
import type { IoUring } from '../../shim/io/uring.js';
import type { Control } from '../worker-host.js';
import { Kick } from './kick.js';
import type { BlockQueue } from './queue.js';
import { Spin } from './spin.js';
import { TARGET_USER } from './target/target-io.js';
import type { TargetIo } from './target/target-io.js';

/** High words of completions that are not a queue's. */
const Special = Object.freeze({ CONTROL: -1, KICK: -2, CANCELLED: -3 } as const);

/** A queue, its frontend's event, and whether its end has been reported. */
interface Attached {
  readonly queue: BlockQueue;
  /** Which one it is of the disk's. */
  readonly number: number;
  readonly kick: Kick;
  haltReported: boolean;
}

export class BlockLoop {
  /** The time in ms as of the last batch of completions, or the last moment without work. */
  readonly clock = new Float64Array([performance.now()]);
  private attached: readonly Attached[] = [];
  private readonly spin = new Spin();
  private readonly controlBell: Doorbell;

  constructor(
    private readonly uring: IoUring,
    private readonly io: TargetIo,
    private readonly control: Control,
    /** Told once per connection and queue: the frontend broke its ring. */
    private readonly halted: (queue: number) => void,
  ) {
    this.controlBell = new Doorbell(uring, control.fd, 0, Special.CONTROL);
  }

  get active(): boolean {
    return this.attached.length > 0;
  }

  /** Queues in the order of their indexes. */
  attach(queues: readonly { readonly queue: BlockQueue; readonly number: number; readonly kickFd: number }[]): void {
    this.attached = queues.map(({ queue, number, kickFd }, index) => ({
      queue,
      number,
      kick: new Kick(new Doorbell(this.uring, kickFd, index, Special.KICK)),
      haltReported: false,
    }));
  }

  /** Serves the queues until the main thread rings. */
  run(): void {
    const { spin } = this;
    while (!this.control.wanted()) {
      if (this.pass() > 0) {
        spin.worked();
        continue;
      }
      if (spin.again(this.tick())) continue;
      this.sleep();
    }
  }

  /** Waits for the requests in flight and answers them; takes none meanwhile. */
  settle(): void {
    while (this.inflight() > 0) {
      this.io.push();
      this.uring.enter(this.io.arm() ? 1 : 0, -1);
      this.reap();
      this.publish();
    }
    this.publish();
  }

  /** Takes no more requests, answers those in flight, and lets go of the events. */
  drain(): void {
    for (const { queue } of this.attached) queue.stopped = true;
    this.io.draining();
    this.settle();
    for (const [index, { kick }] of this.attached.entries()) kick.bell.cancel(index, Special.CANCELLED);
    while (this.attached.some(({ kick }) => kick.bell.armed)) {
      this.uring.enter(1, -1);
      this.reap();
    }
    this.attached = [];
  }

  /** One round without waiting; returns requests taken plus completions read. */
  private pass(): number {
    let work = 0;
    for (const entry of this.attached) {
      const taken = entry.queue.take();
      work += taken;
      const pause = entry.kick.looked(taken);
      if (pause > 0) this.pause(entry, pause);
    }
    this.io.push();
    if (this.uring.toSubmit > 0 || (this.io.completesInRing && this.inflight() > 0)) this.uring.enter(0, -1);
    work += this.reap();
    this.publish();
    return work;
  }

  private sleep(): void {
    const now = this.tick();
    let wait = -1;
    this.controlBell.arm();
    for (const entry of this.attached) {
      const { queue, kick } = entry;
      if (queue.ring.halted) {
        this.reportHalt(entry);
        kick.bell.cancel(0, Special.CANCELLED);
      } else if (queue.pausedUntil > now) {
        const left = queue.pausedUntil - now;
        wait = wait < 0 ? left : Math.min(wait, left);
      } else if (!queue.stalled) {
        // The bell first: what comes after the look at the ring must find it hung up.
        kick.bell.arm();
        if (queue.ring.finalCheck()) return;
      }
      if (queue.upkeepAt < Infinity) {
        const left = Math.max(0, queue.upkeepAt - now);
        wait = wait < 0 ? left : Math.min(wait, left);
      }
    }
    // Whoever wants us sets the word before ringing, and the bell is armed by now.
    if (!this.io.arm() || this.control.wanted()) return;
    this.spin.sleeping(now);
    this.uring.enter(1, wait < 0 ? -1 : Math.ceil(wait * 1000));
    this.spin.awake(this.tick());
    this.reap();
    this.publish();
  }

  private tick(): number {
    const now = performance.now();
    this.clock[0] = now;
    return now;
  }

  private pause({ queue, kick }: Attached, ms: number): void {
    queue.pausedUntil = performance.now() + ms;
    kick.bell.cancel(0, Special.CANCELLED);
  }

  private reportHalt(entry: Attached): void {
    if (entry.haltReported) return;
    entry.haltReported = true;
    this.halted(entry.number);
  }

  private inflight(): number {
    let sum = 0;
    for (const { queue } of this.attached) sum += queue.inflight;
    return sum;
  }

  private publish(): void {
    for (const { queue } of this.attached) queue.publish();
  }

  private reap(): number {
    const { uring, attached } = this;
    const count = uring.completions();
    if (count > 0) this.tick();
    const { words } = uring;
    for (let i = 0; i < count; i++) {
      const at = uring.completion(i);
      const lo = words[at]!;
      const hi = words[at + CQE_USER_HI]!;
      const result = words[at + CQE_RESULT]!;
      if (hi >= 0) attached[hi]!.queue.complete(lo, result);
      else if (hi === Special.KICK) attached[lo]!.kick.completed(uring.flags(i), result);
      else if (hi === Special.CONTROL) this.controlBell.completed(uring.flags(i), result);
      else if (hi === TARGET_USER) this.io.completed(lo, uring.flags(i), result);
    }
    if (count > 0) uring.consume(count);
    const polled = this.io.poll();
    if (polled > 0) this.tick();
    return count + polled;
  }
}
