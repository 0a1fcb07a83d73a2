/** A hypercall as its handler sees it: who calls, with which arguments, in which width, and the caller's memory. */
import { Errno } from '../abi/errno.js';
import { Domid } from '../abi/xen.js';
import type { Domain } from '../domain/domain.js';
import type { GuestSpace } from './guest-space.js';
import type { WAIT } from './row.js';

const WORD = 2n ** 64n - 1n;

export class Call {
  /**
   * @param args six registers, zero-extended
   * @param long 64-bit structures
   * @param nested runs another hypercall of the same vCPU; absent within a multicall, so that they do not nest
   */
  constructor(
    readonly domain: Domain,
    readonly vcpu: number,
    readonly long: boolean,
    readonly args: BigUint64Array,
    readonly space: GuestSpace,
    readonly nested?: (number: number, args: BigUint64Array) => Generator<void, number | typeof WAIT, void>,
  ) {}

  /** Register `i` as a C unsigned int. */
  u32(i: number): number {
    return Number(this.args[i]! & 0xffff_ffffn);
  }

  /** Register `i` as a guest address. */
  pointer(i: number): bigint {
    return this.args[i]!;
  }

  /** A field of the width of the guest's long, as a number: exact below 2^53, beyond every limit above. */
  word(view: DataView, at: number): number {
    return this.long ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true);
  }

  /** A guest handle in a structure. */
  handle(view: DataView, at: number): bigint {
    return this.long ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true));
  }

  /** Bytes of the guest's long: elements of xen_pfn_t and xen_ulong_t arrays. */
  get wordSize(): 4 | 8 {
    return this.long ? 8 : 4;
  }

  /** Copies an array of guest longs; undefined when it is not all there. The caller bounds `count`. */
  readWords(va: bigint, count: number): number[] | undefined {
    const bytes = new Uint8Array(count * this.wordSize);
    if (!this.space.read(va, bytes)) return undefined;
    const view = new DataView(bytes.buffer);
    return Array.from({ length: count }, (_, i) => this.word(view, i * this.wordSize));
  }

  /** The address `index` elements of `size` bytes after `va`, as the guest's pointer arithmetic has it. */
  element(va: bigint, index: number, size: number): bigint {
    return (va + BigInt(index) * BigInt(size)) & WORD;
  }

  /** A domain argument that may only mean the caller: 0, or -ESRCH for nobody, -EPERM for the backends' domain. */
  self(domid: number): number {
    if (domid === Domid.SELF || domid === this.domain.domid) return 0;
    return domid === Domid.BACKEND ? -Errno.EPERM : -Errno.ESRCH;
  }
}
