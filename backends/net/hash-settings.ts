/**
 * What a frontend has set over the control ring (public/io/netif.h "Control ring"), in memory its queues share. One
 * thread writes, under an odd generation; queues take a settled generation over, and use the one before until then.
 */
import { NetifHashAlgorithm } from '../../shim/abi/io/netif.js';
import { TOEPLITZ_KEY_BYTES } from './toeplitz.js';
import { MAX_HASH_MAPPING, VifWord } from './vif-memory.js';

export class HashSettings {
  readonly #words: Int32Array;
  readonly #key: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#key = new Uint8Array(memory, VifWord.HASH_KEY * 4, TOEPLITZ_KEY_BYTES);
  }

  get generation(): number {
    return Atomics.load(this.#words, VifWord.HASH_GENERATION);
  }

  /** NetifHashAlgorithm. */
  get algorithm(): number {
    return this.#words[VifWord.HASH_ALGORITHM]!;
  }

  /** NetifHashType bits. */
  get flags(): number {
    return this.#words[VifWord.HASH_FLAGS]!;
  }

  get mappingSize(): number {
    return this.#words[VifWord.HASH_MAPPING_SIZE]!;
  }

  get key(): Uint8Array {
    return this.#key;
  }

  /** The queue of entry `i` of the mapping. */
  queue(i: number): number {
    return this.#words[VifWord.HASH_MAPPING + i]!;
  }

  setAlgorithm(algorithm: number): void {
    this.#write(() => {
      this.#words[VifWord.HASH_ALGORITHM] = algorithm;
    });
  }

  setFlags(flags: number): void {
    this.#write(() => {
      this.#words[VifWord.HASH_FLAGS] = flags;
    });
  }

  /** A key of at most TOEPLITZ_KEY_BYTES bytes; the rest becomes zero. */
  setKey(key: Uint8Array): void {
    this.#write(() => {
      this.#key.fill(0);
      this.#key.set(key);
    });
  }

  /** A mapping of that size, all of it queue 0. */
  setMappingSize(size: number): void {
    this.#write(() => {
      this.#words[VifWord.HASH_MAPPING_SIZE] = size;
      this.#words.fill(0, VifWord.HASH_MAPPING, VifWord.HASH_MAPPING + MAX_HASH_MAPPING);
    });
  }

  setMapping(offset: number, queues: readonly number[]): void {
    this.#write(() => {
      this.#words.set(queues, VifWord.HASH_MAPPING + offset);
    });
  }

  /** As a vif begins: the choice of the queue is the host's. */
  reset(): void {
    this.#write(() => {
      this.#words[VifWord.HASH_ALGORITHM] = NetifHashAlgorithm.NONE;
      this.#words.fill(0, VifWord.HASH_FLAGS, VifWord.HASH_MAPPING + MAX_HASH_MAPPING);
    });
  }

  #write(body: () => void): void {
    Atomics.add(this.#words, VifWord.HASH_GENERATION, 1);
    body();
    Atomics.add(this.#words, VifWord.HASH_GENERATION, 1);
  }
}
