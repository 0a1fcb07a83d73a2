/**
 * The 2-level event-channel ABI on guest memory (public/xen.h, struct shared_info and vcpu_info). Guest and kernel
 * change the same words at the same time, so every access is an atomic operation on a 32-bit word: a bit array of
 * 64-bit little-endian words is the same bits as one of 32-bit words.
 */
import { SharedInfo32, SharedInfo64, VcpuInfo32, VcpuInfo64 } from '../abi/xen.js';
import { PORTS_2L_32, PORTS_2L_64 } from '../abi/event-channel.js';

/** Memory some structure of the guest lies in: `at` is its byte offset, a multiple of 4. */
export interface Place {
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly at: number;
}

const setBit = (words: Int32Array, first: number, bit: number): boolean =>
  (Atomics.or(words, first + (bit >>> 5), 1 << (bit & 31)) & (1 << (bit & 31))) !== 0;

const clearBit = (words: Int32Array, first: number, bit: number): boolean =>
  (Atomics.and(words, first + (bit >>> 5), ~(1 << (bit & 31))) & (1 << (bit & 31))) !== 0;

const testBit = (words: Int32Array, first: number, bit: number): boolean =>
  (Atomics.load(words, first + (bit >>> 5)) & (1 << (bit & 31))) !== 0;

/** The pending and mask bits of a shared_info page. Ports must be below `ports`. */
export class EventBits {
  readonly ports: number;
  readonly #words: Int32Array;
  readonly #pending: number;
  readonly #mask: number;

  /** @param long the width the guest's kernel was latched with: true = 64-bit words */
  constructor(
    readonly place: Place,
    readonly long: boolean,
  ) {
    const layout = long ? SharedInfo64 : SharedInfo32;
    this.ports = long ? PORTS_2L_64 : PORTS_2L_32;
    this.#words = place.i32;
    this.#pending = (place.at + layout.evtchn_pending) >>> 2;
    this.#mask = (place.at + layout.evtchn_mask) >>> 2;
  }

  pending(port: number): boolean {
    return testBit(this.#words, this.#pending, port);
  }

  masked(port: number): boolean {
    return testBit(this.#words, this.#mask, port);
  }

  /** Returns what the bit was. */
  setPending(port: number): boolean {
    return setBit(this.#words, this.#pending, port);
  }

  /** Returns what the bit was. */
  clearPending(port: number): boolean {
    return clearBit(this.#words, this.#pending, port);
  }

  /** Returns what the bit was. */
  clearMask(port: number): boolean {
    return clearBit(this.#words, this.#mask, port);
  }
}

/** A vcpu_info of 64 bytes. */
export class VcpuUpcall {
  readonly #word: number;
  readonly #select: number;

  constructor(
    readonly place: Place,
    readonly long: boolean,
  ) {
    this.#word = place.at >>> 2;
    this.#select = (place.at + (long ? VcpuInfo64 : VcpuInfo32).evtchn_pending_sel) >>> 2;
  }

  get pending(): boolean {
    return (Atomics.load(this.place.i32, this.#word) & 0xff) !== 0;
  }

  /** Says that the word of `port` has something pending; true if it did not say so before. */
  select(port: number): boolean {
    if (setBit(this.place.i32, this.#select, port >>> (this.long ? 6 : 5))) return false;
    this.raise();
    return true;
  }

  /** Takes back what `select` said of the word of `port`; the flag stays. */
  unselect(port: number): void {
    clearBit(this.place.i32, this.#select, port >>> (this.long ? 6 : 5));
  }

  /** Sets the flag alone. */
  raise(): void {
    // evtchn_upcall_pending is the low byte of the first word; the mask byte beside it is the guest's.
    Atomics.or(this.place.i32, this.#word, 1);
  }

  /** Forgets every selected word and the flag: who calls this raises what is pending again. */
  clear(): void {
    for (let word = 0; word < (this.long ? 2 : 1); word++) Atomics.store(this.place.i32, this.#select + word, 0);
    Atomics.and(this.place.i32, this.#word, ~0xff);
  }
}

export type Delivered = 'already-pending' | 'masked' | 'selected' | 'raised' | 'nowhere';

/**
 * Delivers an event the way Xen and the kernel do: pending bit, unless masked the vCPU's selector bit and then its
 * upcall flag. `raised` means the vCPU has to be told. A vCPU without a vcpu_info keeps only the pending bit.
 */
export function deliver(bits: EventBits, upcall: VcpuUpcall | undefined, port: number): Delivered {
  if (port >= bits.ports) return 'nowhere';
  if (bits.setPending(port)) return 'already-pending';
  if (bits.masked(port)) return 'masked';
  if (upcall === undefined) return 'nowhere';
  return upcall.select(port) ? 'raised' : 'selected';
}
