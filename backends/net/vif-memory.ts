/**
 * What the queues of a vif share, each in its own thread: multicast filter, hash settings, and the credit of the whole
 * vif. 32-bit words in shared memory; who may write what stands with the classes over it.
 */
import { TOEPLITZ_KEY_BYTES } from './toeplitz.js';

/** XEN_NETBK_MCAST_MAX of Linux netback; a frontend relies on the number. */
export const MAX_MULTICAST = 64;
/** XEN_NETBK_MAX_HASH_MAPPING_SIZE: entries of the table from hash to queue. */
export const MAX_HASH_MAPPING = 128;

const MULTICAST_WORDS = 2;
const KEY_WORDS = TOEPLITZ_KEY_BYTES / 4;
const HASH = 3 + MAX_MULTICAST * MULTICAST_WORDS;

/** Index of each word, or of the first of several. */
export const VifWord = Object.freeze({
  /** 1 = frames to groups that are not listed are dropped. */
  FILTERING: 0,
  MULTICAST_LOCK: 1,
  MULTICAST_COUNT: 2,
  MULTICAST: 3,
  /** Odd while the settings behind it are being written. */
  HASH_GENERATION: HASH,
  HASH_ALGORITHM: HASH + 1,
  HASH_FLAGS: HASH + 2,
  HASH_KEY: HASH + 3,
  HASH_MAPPING_SIZE: HASH + 3 + KEY_WORDS,
  HASH_MAPPING: HASH + 4 + KEY_WORDS,
  CREDIT_LOCK: HASH + 4 + KEY_WORDS + MAX_HASH_MAPPING,
});

/** Bytes before the doubles of the credit. */
export const CREDIT_OFFSET = Math.ceil((VifWord.CREDIT_LOCK + 1) / 2) * 8;
const CREDIT_DOUBLES = 5;

export const VIF_MEMORY_BYTES = CREDIT_OFFSET + CREDIT_DOUBLES * 8;

/** Takes a lock that is held for a few instructions at a time. */
export function enter(words: Int32Array, lock: number): void {
  while (Atomics.compareExchange(words, lock, 0, 1) !== 0) {
    // The holder runs in another thread, and neither sleeps nor calls out.
  }
}

export function leave(words: Int32Array, lock: number): void {
  Atomics.store(words, lock, 0);
}
