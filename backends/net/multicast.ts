/**
 * The multicast filter of a vif (public/io/netif.h "Multicast control"): the frontend lists the groups it wants in its
 * transmit ring and says `request-multicast-control`; frames to other groups are dropped. Any queue may change the list.
 */
import { enter, leave, MAX_MULTICAST, VifWord } from './vif-memory.js';

const { FILTERING, MULTICAST, MULTICAST_COUNT, MULTICAST_LOCK } = VifWord;
const BROADCAST_LOW = -1;
const BROADCAST_HIGH = 0xffff;

export class MulticastFilter {
  readonly #words: Int32Array;

  /** @param memory VIF_MEMORY_BYTES, shared by the queues */
  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  /** `request-multicast-control`, which the frontend may change at any time. */
  set filtering(on: boolean) {
    Atomics.store(this.#words, FILTERING, on ? 1 : 0);
  }

  get filtering(): boolean {
    return this.#words[FILTERING] !== 0;
  }

  get count(): number {
    return Atomics.load(this.#words, MULTICAST_COUNT);
  }

  /** Adds a group, known or not. False when the list is full. */
  add(address: Uint8Array): boolean {
    const words = this.#words;
    enter(words, MULTICAST_LOCK);
    const count = words[MULTICAST_COUNT]!;
    const fits = count < MAX_MULTICAST;
    if (fits) {
      words[MULTICAST + count * 2] = low(address, 0);
      words[MULTICAST + count * 2 + 1] = high(address, 0);
      words[MULTICAST_COUNT] = count + 1;
    }
    leave(words, MULTICAST_LOCK);
    return fits;
  }

  /** Removes one entry of a group; one that is not listed is no error. */
  remove(address: Uint8Array): void {
    const words = this.#words;
    enter(words, MULTICAST_LOCK);
    const at = this.#find(low(address, 0), high(address, 0));
    if (at >= 0) {
      const last = --words[MULTICAST_COUNT]!;
      words[MULTICAST + at * 2] = words[MULTICAST + last * 2]!;
      words[MULTICAST + at * 2 + 1] = words[MULTICAST + last * 2 + 1]!;
    }
    leave(words, MULTICAST_LOCK);
  }

  /** A frontend that goes takes its list along. */
  clear(): void {
    enter(this.#words, MULTICAST_LOCK);
    this.#words[MULTICAST_COUNT] = 0;
    leave(this.#words, MULTICAST_LOCK);
  }

  /** Whether the frontend wants the frame that begins at byte `at`. A change under way may cost a frame, no more. */
  wants(frame: Uint8Array, at: number): boolean {
    if (this.#words[FILTERING] === 0 || (frame[at]! & 1) === 0) return true;
    const first = low(frame, at);
    const rest = high(frame, at);
    return (first === BROADCAST_LOW && rest === BROADCAST_HIGH) || this.#find(first, rest) >= 0;
  }

  #find(first: number, rest: number): number {
    const words = this.#words;
    const count = words[MULTICAST_COUNT]!;
    for (let i = 0; i < count; i++) {
      if (words[MULTICAST + i * 2] === first && words[MULTICAST + i * 2 + 1] === rest) return i;
    }
    return -1;
  }
}

const low = (bytes: Uint8Array, at: number): number =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
const high = (bytes: Uint8Array, at: number): number => bytes[at + 4]! | (bytes[at + 5]! << 8);
