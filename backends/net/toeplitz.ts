/**
 * The Toeplitz hash over the addresses and ports of a packet (public/io/netif.h "Hash algorithms"): each set bit of the
 * input adds the 32 bits of the key that begin at its place. Bytes are looked up in a table made when the key is set.
 */

export const TOEPLITZ_KEY_BYTES = 40;
/** The longest input: two IPv6 addresses and two ports. */
export const TOEPLITZ_INPUT_BYTES = 36;

export class Toeplitz {
  readonly #table = new Int32Array(TOEPLITZ_INPUT_BYTES * 256);

  /** @param key TOEPLITZ_KEY_BYTES bytes, a shorter key padded with zeros */
  setKey(key: Uint8Array): void {
    const table = this.#table;
    for (let position = 0; position < TOEPLITZ_INPUT_BYTES; position++) {
      const base = position << 8;
      table[base] = 0;
      for (let bit = 0; bit < 8; bit++) {
        // The input's bits count from the highest, and so do the key's.
        const window = windowAt(key, position * 8 + bit);
        const value = 0x80 >> bit;
        for (let other = 0; other < 256; other += value * 2) {
          for (let low = 0; low < value; low++) table[base + other + value + low] = table[base + other + low]! ^ window;
        }
      }
    }
  }

  /** Hashes `length` bytes, which stand at `position` of the input; combine parts with XOR. Signed 32 bits. */
  part(bytes: Uint8Array, at: number, length: number, position: number): number {
    const table = this.#table;
    let hash = 0;
    for (let i = 0; i < length; i++) hash ^= table[((position + i) << 8) | bytes[at + i]!]!;
    return hash;
  }

  /** The hash of an input that lies in one piece. Unsigned. */
  hash(bytes: Uint8Array, at: number, length: number): number {
    return this.part(bytes, at, length, 0) >>> 0;
  }
}

/** 32 bits of the key from bit `from` on. */
function windowAt(key: Uint8Array, from: number): number {
  const byte = from >> 3;
  const shift = from & 7;
  const at = (i: number): number => key[byte + i] ?? 0;
  const high = (at(0) << 24) | (at(1) << 16) | (at(2) << 8) | at(3);
  return shift === 0 ? high : (high << shift) | (at(4) >> (8 - shift));
}
