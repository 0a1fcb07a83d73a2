/** Which frames of the link a frontend gets, and through which of its queues. */
import { FlowHash } from './flow-hash.js';
import { Handover } from './handover.js';
import type { QueuePlace } from './messages.js';
import { MulticastFilter } from './multicast.js';
import { Counter } from './stats.js';
import { VnetHeader } from './vnet-header.js';

export class RxPolicy {
  /** Not a counter: another queue has the frame now. */
  static readonly GIVEN = 0x7fffffff;

  /** Hash of the frame judged last. */
  readonly flow: FlowHash;
  readonly handover: Handover | undefined;
  readonly #multicast: MulticastFilter;
  readonly #index: number;

  constructor(memory: SharedArrayBuffer, place?: QueuePlace) {
    this.#multicast = new MulticastFilter(memory);
    this.#index = place?.index ?? 0;
    this.flow = new FlowHash(memory, place?.count ?? 1);
    if (place?.handover !== undefined) this.handover = new Handover(place.handover.memory, place.index, place.handover.kicks);
  }

  /** Whether every frame is this queue's, unseen. */
  get everything(): boolean {
    return !this.#multicast.filtering && !this.flow.on;
  }

  /**
   * Judges a frame behind the virtio-net header at `at`. Returns -1 when it is this queue's, the counter of its drop
   * when nobody gets it, and GIVEN when it went to another queue.
   */
  judge(bytes: Uint8Array, at: number, length: number, steer: boolean): number {
    const frame = at + VnetHeader.SIZE;
    if (!this.#multicast.wants(bytes, frame)) return Counter.rxDropFiltered;
    const queue = this.flow.queue(bytes, frame, length);
    if (queue < 0 || queue === this.#index || !steer || this.handover === undefined) return -1;
    return this.handover.give(queue, bytes, at, length + VnetHeader.SIZE) ? RxPolicy.GIVEN : Counter.rxDropHandover;
  }
}
