/** The virtual memory of a vCPU in a hypercall: its own page tables, over the frames of its domain. */
import type { HypercallExit } from '../../kvm/bridge.js';
import { PAGE_SIZE, type GuestMemory } from '../memory/guest-memory.js';
import { translate } from '../memory/page-walk.js';
import type { P2m } from '../memory/p2m.js';

type Registers = Pick<HypercallExit, 'cr0' | 'cr3' | 'cr4' | 'efer'>;

export class GuestSpace {
  constructor(
    readonly memory: GuestMemory,
    readonly p2m: P2m,
    readonly registers: Registers,
    /** 64-bit code: addresses are not cut to 32 bits. */
    readonly long: boolean,
  ) {}

  /** Copies from the guest; false if any of it is not there. */
  read(va: bigint, into: Uint8Array): boolean {
    return this.#pages(va, into.length, false, (gpa, done, part) =>
      this.p2m.read(gpa, into.subarray(done, done + part)),
    );
  }

  /** Copies to the guest; false if any of it is not there or not writable. What precedes the fault is written. */
  write(va: bigint, from: Uint8Array): boolean {
    return this.#pages(va, from.length, true, (gpa, done, part) =>
      this.p2m.write(gpa, from.subarray(done, done + part)),
    );
  }

  /** Guest-physical address of a range, or undefined if it is not there or not contiguous. */
  physical(va: bigint, length: number): number | undefined {
    let first: number | undefined;
    const contiguous = this.#pages(va, length, true, (gpa, done) => {
      first ??= gpa;
      return gpa === first + done && this.p2m.locate(Math.floor(gpa / PAGE_SIZE)) !== undefined;
    });
    return contiguous ? first : undefined;
  }

  #pages(
    va: bigint,
    length: number,
    write: boolean,
    each: (gpa: number, done: number, part: number) => boolean,
  ): boolean {
    const bits = this.long ? 64 : 32;
    for (let done = 0; done < length; ) {
      const at = BigInt.asUintN(bits, va + BigInt(done));
      // The kernel's own accesses: hypercalls come from privilege level 0.
      const gpa = translate(this.memory, this.registers, at, write, false);
      if (gpa === undefined) return false;
      const part = Math.min(PAGE_SIZE - Number(at & 0xfffn), length - done);
      if (!each(gpa, done, part)) return false;
      done += part;
    }
    return true;
  }
}
