/**
 * Pages to be mapped, and handles to be unmapped, as native code sees them too (quick_grants.cc). For backends that want
 * addresses: no window, and no callback unless they ask for a page's.
 */
import { arena } from '../io/memory.js';
import type { Arena } from '../io/memory.js';

/** Words of an op, as a shift: an op begins at `i << PAGE_OP_SHIFT` of `words`. */
export const PAGE_OP_SHIFT = 3;

/** Words of an op. */
export const PageOp = Object.freeze({
  /** in */
  REF: 0,
  READONLY: 1,
  /** out: GNTST_*; the next three are meaningful if it is 0. */
  STATUS: 2,
  HANDLE: 3,
  /** Address of the page in this process; the low half is below 2^31, so that adding to it never carries (attach.ts). */
  HVA_LO: 4,
  HVA_HI: 5,
  /** in: the caller's own. */
  CONTEXT: 6,
} as const);

/** What an op is that native code has left alone. No GNTST_* is positive. */
export const LEFT_ALONE = 1;

export class PageBatch {
  count = 0;
  readonly words: Int32Array;
  readonly #arena: Arena;

  constructor(readonly capacity: number) {
    this.#arena = arena(capacity << (PAGE_OP_SHIFT + 2));
    this.words = this.#arena.i32;
  }

  /** Appends an op. The caller keeps within `capacity`. */
  add(ref: number, readonly: boolean, context: number): void {
    const { words } = this;
    const at = this.count++ << PAGE_OP_SHIFT;
    words[at + PageOp.REF] = ref;
    words[at + PageOp.READONLY] = readonly ? 1 : 0;
    words[at + PageOp.CONTEXT] = context;
  }

  /** Address of the ops. */
  get lo(): number {
    return this.#arena.lo;
  }

  get hi(): number {
    return this.#arena.hi;
  }

  free(): void {
    this.#arena.free();
  }
}

/** Handles to be unmapped together. */
export class HandleBatch {
  count = 0;
  readonly handle: Int32Array;
  readonly #arena: Arena;

  constructor(readonly capacity: number) {
    this.#arena = arena(capacity << 2);
    this.handle = this.#arena.i32;
  }

  /** Address of the handles. */
  get lo(): number {
    return this.#arena.lo;
  }

  get hi(): number {
    return this.#arena.hi;
  }

  free(): void {
    this.#arena.free();
  }
}
