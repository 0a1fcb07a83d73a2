/**
 * The two byte rings of a console page, from the host's side. The guest may write anything at any time: each index is
 * read once per pass, and a distance no honest guest can make is answered by dropping what the ring claims to hold.
 */
import {
  CONSOLE_CONNECTION_AT,
  CONSOLE_IN_SIZE,
  CONSOLE_OUT_SIZE,
  XenconsInterface as Layout,
} from '../../shim/abi/io/console.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';

/** The console's page within memory this thread has mapped. */
export interface ConsolePage {
  readonly u8: Uint8Array;
  /** Byte offset of the page in `u8`, a multiple of 4. */
  readonly offset: number;
}

const IN_CONS = Layout.in_cons / 4;
const IN_PROD = Layout.in_prod / 4;
const OUT_CONS = Layout.out_cons / 4;
const OUT_PROD = Layout.out_prod / 4;

export class ConsoleRing {
  readonly #page: Uint8Array;
  readonly #words: Int32Array;

  constructor({ u8, offset }: ConsolePage) {
    this.#page = u8.subarray(offset, offset + PAGE_SIZE);
    this.#words = new Int32Array(u8.buffer, u8.byteOffset + offset, PAGE_SIZE / 4);
  }

  /**
   * Takes what the guest has printed: bytes copied to the start of `into` (at least CONSOLE_OUT_SIZE long), or -1 when
   * the indices were impossible and the ring has been emptied unread.
   */
  takeOutput(into: Uint8Array): number {
    const prod = Atomics.load(this.#words, OUT_PROD);
    const cons = Atomics.load(this.#words, OUT_CONS);
    const count = (prod - cons) >>> 0;
    if (count > CONSOLE_OUT_SIZE) {
      Atomics.store(this.#words, OUT_CONS, prod);
      return -1;
    }
    for (let i = 0; i < count; i++) into[i] = this.#page[Layout.out + ((cons + i) & (CONSOLE_OUT_SIZE - 1))]!;
    // The bytes have been read before the guest may reuse their room.
    Atomics.store(this.#words, OUT_CONS, prod);
    return count;
  }

  /** Whether the guest has printed something that is still there. */
  get hasOutput(): boolean {
    return Atomics.load(this.#words, OUT_PROD) !== Atomics.load(this.#words, OUT_CONS);
  }

  /** Types `bytes` from index `from` on; returns how many fitted. */
  putInput(bytes: Uint8Array, from: number): number {
    const cons = Atomics.load(this.#words, IN_CONS);
    let prod = Atomics.load(this.#words, IN_PROD);
    if ((prod - cons) >>> 0 > CONSOLE_IN_SIZE) prod = cons;
    const count = Math.min(CONSOLE_IN_SIZE - ((prod - cons) >>> 0), bytes.length - from);
    for (let i = 0; i < count; i++) this.#page[Layout.in + ((prod + i) & (CONSOLE_IN_SIZE - 1))] = bytes[from + i]!;
    Atomics.store(this.#words, IN_PROD, prod + count);
    return count;
  }

  /** ConsoleConnection: whether anybody serves the page. */
  setConnection(value: number): void {
    this.#page[CONSOLE_CONNECTION_AT] = value;
  }
}
