/** One read or write at a time by plain system calls that never wait (kvm/addon/vector_io.cc). */
import { native, type NativeVectorIo } from '../../kvm/native.js';

/** Words of a call: address of the iovecs or of the only buffer, low and high; how many iovecs; the result; bytes of the buffer. */
const ADDRESS = 0;
const COUNT = 2;
const RESULT = 3;
const LENGTH = 4;
const HIGH = 2 ** 32;

export class VectorIo {
  readonly #native: NativeVectorIo;
  readonly #call: Int32Array;
  readonly #read: () => void;
  readonly #write: () => void;

  /**
   * @param fd stays the caller's, and open for as long as this is used
   * @param plain for a file that takes no RWF_NOWAIT and would answer each call with EOPNOTSUPP; makes it non-blocking
   */
  constructor(fd: number, plain = false) {
    this.#native = new native.VectorIo(fd, plain);
    this.#call = new Int32Array(this.#native.call);
    this.#read = this.#native.read;
    this.#write = this.#native.write;
  }

  /** Reads into `count` iovecs at `address`; bytes, or a negative errno: EAGAIN when it would have to wait. */
  read(address: number, count: number): number {
    this.#put(address, count, 0);
    this.#read();
    return this.#call[RESULT]!;
  }

  /** Writes `count` iovecs at `address`; likewise. */
  write(address: number, count: number): number {
    this.#put(address, count, 0);
    this.#write();
    return this.#call[RESULT]!;
  }

  /** Reads into `length` bytes at `address`; likewise. */
  readOne(address: number, length: number): number {
    this.#put(address, 0, length);
    this.#read();
    return this.#call[RESULT]!;
  }

  /** Writes `length` bytes at `address`; likewise. */
  writeOne(address: number, length: number): number {
    this.#put(address, 0, length);
    this.#write();
    return this.#call[RESULT]!;
  }

  #put(address: number, count: number, length: number): void {
    const call = this.#call;
    // Storing a double keeps its value modulo 2^32: the low word.
    call[ADDRESS] = address;
    call[ADDRESS + 1] = address / HIGH;
    call[COUNT] = count;
    call[LENGTH] = length;
  }
}
