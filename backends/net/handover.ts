/**
 * Frames on their way from the queue that read them to the queue the frontend's hash assigns them to. Each queue has an
 * inbox in shared memory, filled by the others. Only vifs with a control ring and several queues have any.
 */
import { signalEventfd } from '../../shim/io/eventfd.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import { enter, leave } from './vif-memory.js';

/** Frames an inbox holds, and room for each: as long as a receive buffer. */
const SLOTS = 16;
const SLOT_BYTES = 17 * PAGE_SIZE;

/** Words of an inbox's head. */
const LOCK = 0;
const FIRST = 1;
const COUNT = 2;
const LENGTHS = 4;
const HEAD_BYTES = PAGE_SIZE;
const INBOX_BYTES = HEAD_BYTES + SLOTS * SLOT_BYTES;

export const handoverBytes = (queues: number): number => queues * INBOX_BYTES;

/** Takes a frame as if the link had brought it; false when it has no room. */
export interface Inject {
  inject(bytes: Uint8Array, at: number, length: number, now: number): boolean;
}

export class Handover {
  readonly #heads: readonly Int32Array[];
  readonly #bodies: readonly Uint8Array[];

  /**
   * @param memory handoverBytes, shared by the queues
   * @param queue ours
   * @param kicks eventfd of each queue that wakes its thread
   */
  constructor(
    memory: SharedArrayBuffer,
    readonly queue: number,
    readonly kicks: readonly number[],
  ) {
    this.#heads = kicks.map((_, i) => new Int32Array(memory, i * INBOX_BYTES, HEAD_BYTES / 4));
    this.#bodies = kicks.map((_, i) => new Uint8Array(memory, i * INBOX_BYTES + HEAD_BYTES, SLOTS * SLOT_BYTES));
  }

  /** Copies a frame, with the header in front of it, into another queue's inbox. False if that is full. */
  give(queue: number, bytes: Uint8Array, at: number, length: number): boolean {
    const head = this.#heads[queue]!;
    const body = this.#bodies[queue]!;
    enter(head, LOCK);
    const count = head[COUNT]!;
    const fits = count < SLOTS;
    if (fits) {
      const slot = (head[FIRST]! + count) % SLOTS;
      head[LENGTHS + slot] = length;
      body.set(bytes.subarray(at, at + length), slot * SLOT_BYTES);
      head[COUNT] = count + 1;
    }
    leave(head, LOCK);
    if (fits && count === 0) signalEventfd(this.kicks[queue]!);
    return fits;
  }

  /** Whether frames wait in our inbox. */
  get waiting(): boolean {
    return Atomics.load(this.#heads[this.queue]!, COUNT) > 0;
  }

  /** Takes frames out of our inbox as far as there is room for them. Returns how many. */
  take(into: Inject, now: number): number {
    const head = this.#heads[this.queue]!;
    const body = this.#bodies[this.queue]!;
    let taken = 0;
    for (; Atomics.load(head, COUNT) > 0; taken++) {
      const slot = head[FIRST]!;
      // Nobody else takes, and those who fill keep off a slot that counts.
      if (!into.inject(body, slot * SLOT_BYTES, head[LENGTHS + slot]!, now)) break;
      enter(head, LOCK);
      head[FIRST] = (slot + 1) % SLOTS;
      head[COUNT]!--;
      leave(head, LOCK);
    }
    return taken;
  }
}
