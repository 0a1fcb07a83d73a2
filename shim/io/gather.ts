/** Short pieces of memory copied together into one buffer (kvm/addon/gather.cc). */
import { native, type NativeGather } from '../../kvm/native.js';

/** Words of the list: how many pieces, then the pieces from word FIRST on. */
const COUNT = 0;
const FIRST = 4;
const PIECE_SHIFT = 2;

export class Gather {
  /** Pieces to be copied by the next `run`. */
  count = 0;
  readonly #native: NativeGather;
  readonly #list: Int32Array;
  readonly #run: () => void;

  /** @param into where the pieces go; its memory outlives the last `run` */
  constructor(into: ArrayBufferLike, readonly capacity: number) {
    this.#native = new native.Gather(into, capacity);
    this.#list = new Int32Array(this.#native.list);
    this.#run = this.#native.run;
  }

  /**
   * Appends a piece; the caller keeps within `capacity`, and answers for what it names being readable until `run`.
   * @param fromLo address, low and high word
   * @param to byte of the buffer
   */
  add(fromLo: number, fromHi: number, to: number, length: number): void {
    const list = this.#list;
    const at = FIRST + (this.count++ << PIECE_SHIFT);
    list[at] = fromLo;
    list[at + 1] = fromHi;
    list[at + 2] = to;
    list[at + 3] = length;
  }

  /** Copies what has been appended, and begins anew. */
  run(): void {
    this.#list[COUNT] = this.count;
    this.count = 0;
    this.#run();
  }
}
