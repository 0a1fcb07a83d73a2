/** Transmit packets between their slots' arrival and their responses: records of arrays, one tag per packet, reused. */

/** Data slots a packet may have and still be sent (spec C3: Linux counts 18 beside the first). */
export const MAX_DATA_SLOTS = 19;
/** Data slots a packet may have and still be answered; one more is an attack. */
export const MAX_ANSWERED_SLOTS = 21;

/** Field of slot `i` of tag `t`: index `t * MAX_ANSWERED_SLOTS + i`. */
export class TxPackets {
  readonly id: Uint16Array;
  readonly gref: Int32Array;
  readonly offset: Uint16Array;
  /** Bytes of this slot; of the first one too, unlike in the ring. */
  readonly size: Uint16Array;
  /** Grant handle, or INVALID_GRANT_HANDLE. */
  readonly handle: Int32Array;
  /** NETIF_RSP_* to answer the slot with. */
  readonly status: Int8Array;

  /** Data slots of a tag. */
  readonly slots: Uint8Array;
  readonly extras: Uint16Array;
  /** NetTxFlag bits of the first slot. */
  readonly flags: Uint16Array;
  /** Bytes of the whole frame. */
  readonly total: Uint16Array;
  /** NetifGsoType, or NONE. */
  readonly gsoType: Uint8Array;
  readonly gsoSize: Uint16Array;

  readonly #free: Int32Array;
  #freeCount: number;

  constructor(readonly capacity: number) {
    const slots = capacity * MAX_ANSWERED_SLOTS;
    this.id = new Uint16Array(slots);
    this.gref = new Int32Array(slots);
    this.offset = new Uint16Array(slots);
    this.size = new Uint16Array(slots);
    this.handle = new Int32Array(slots).fill(-1);
    this.status = new Int8Array(slots);
    this.slots = new Uint8Array(capacity);
    this.extras = new Uint16Array(capacity);
    this.flags = new Uint16Array(capacity);
    this.total = new Uint16Array(capacity);
    this.gsoType = new Uint8Array(capacity);
    this.gsoSize = new Uint16Array(capacity);
    this.#free = Int32Array.from({ length: capacity }, (_, i) => capacity - 1 - i);
    this.#freeCount = capacity;
  }

  get free(): number {
    return this.#freeCount;
  }

  get used(): number {
    return this.capacity - this.#freeCount;
  }

  /** A tag; the caller has looked at `free`. */
  take(): number {
    return this.#free[--this.#freeCount]!;
  }

  give(tag: number): void {
    this.#free[this.#freeCount++] = tag;
  }
}
