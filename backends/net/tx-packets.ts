/** Transmit packets between their slots' arrival and their responses: records of arrays, one tag per packet, reused. */

/** Data slots a packet may have and still be sent (spec C3: Linux counts 18 beside the first). */
export const MAX_DATA_SLOTS = 19;
/** Data slots a packet may have and still be answered; one more is an attack. */
export const MAX_ANSWERED_SLOTS = 21;

/** Words of a slot in `TxPackets.words`. */
export const TxSlot = Object.freeze({
  GREF: 0,
  /** Offset in the page, flags above it. */
  OFFSET: 1,
  /** Id, and above it the bytes of this slot; of the first one too, unlike in the ring. */
  ID_SIZE: 2,
  /** Grant handle, or INVALID_GRANT_HANDLE. */
  HANDLE: 3,
});
/** Words of a slot, and of all slots of a tag. */
export const SLOT_WORDS = 4;
export const TAG_WORDS = MAX_ANSWERED_SLOTS * SLOT_WORDS;

export class TxPackets {
  /** Slot `i` of tag `t` begins at `t * TAG_WORDS + i * SLOT_WORDS`: what a packet needs lies together. */
  readonly words: Int32Array;
  /** NETIF_RSP_* of slot `i` of tag `t`, at `t * MAX_ANSWERED_SLOTS + i`; only if the tag is `bad`. */
  readonly status: Int8Array;
  /** 1 = not every slot is answered OKAY. */
  readonly bad: Uint8Array;

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
    this.words = new Int32Array(capacity * TAG_WORDS).fill(-1);
    this.status = new Int8Array(capacity * MAX_ANSWERED_SLOTS);
    this.bad = new Uint8Array(capacity);
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
