/** Memory of our own whose address is known, for what the kernel reads and writes beside the guest's pages. */
export interface Arena {
  /** Address in this process. */
  readonly hva: number;
  readonly u8: Uint8Array;
  readonly view: DataView;
  readonly i32: Int32Array;
}

export function arenaOver(buffer: ArrayBufferLike, hva: number): Arena {
  return { hva, u8: new Uint8Array(buffer), view: new DataView(buffer), i32: new Int32Array(buffer) };
}

const HIGH = 2 ** 32;

/** Writes entry `index` of an array of struct iovec that begins at byte `at` (a multiple of 16). */
export function putIovec({ i32 }: Arena, at: number, index: number, address: number, length: number): void {
  const word = (at >> 2) + index * 4;
  // Storing a double into an Int32Array keeps its value modulo 2^32: the low word.
  i32[word] = address;
  i32[word + 1] = address / HIGH;
  i32[word + 2] = length;
  i32[word + 3] = 0;
}
