/**
 * Frames on their way from a queue's thread into a file: a ring in shared memory with one writer and one reader. The
 * writer never waits; what does not fit is counted and left out.
 */

/** A power of two. */
const DATA_BYTES = 4 * 2 ** 20;
/** Words of the head. Positions count bytes from the beginning and wrap at 2^32. */
const WRITTEN = 0;
const READ = 1;
const DROPPED = 2;
const HEAD_BYTES = 64;

/** Words of a record: bytes kept, bytes of the frame, direction, seconds, nanoseconds. Data follows, padded to 4. */
const RECORD_WORDS = 5;
const RECORD_BYTES = RECORD_WORDS * 4;
/** In place of the bytes kept: the rest of the ring is unused. */
const SKIP = -1;

export const CAPTURE_RING_BYTES = HEAD_BYTES + DATA_BYTES;

export const CaptureDirection = Object.freeze({ INBOUND: 1, OUTBOUND: 2 });

const place = (position: number): number => position & (DATA_BYTES - 1);
const padded = (bytes: number): number => (bytes + 3) & ~3;

/** The queue's side. Directions are the guest's: what it sends is outbound. */
export class CaptureWriter {
  readonly #head: Int32Array;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #snapLength: number;
  readonly #bell: Int32Array;
  /** Wall clock minus this thread's clock, ms. */
  readonly #epoch = performance.timeOrigin;
  #position = 0;
  #at = 0;
  #left = 0;
  #open = false;

  /**
   * @param memory CAPTURE_RING_BYTES
   * @param bell a word the file's thread sleeps on, shared by all rings
   */
  constructor(memory: SharedArrayBuffer, snapLength: number, bell: Int32Array) {
    this.#head = new Int32Array(memory, 0, HEAD_BYTES / 4);
    this.#words = new Int32Array(memory, HEAD_BYTES);
    this.#bytes = new Uint8Array(memory, HEAD_BYTES);
    this.#snapLength = snapLength;
    this.#bell = bell;
    this.#position = this.#head[WRITTEN]!;
  }

  /** A frame that lies in one piece. */
  frame(direction: number, bytes: Uint8Array, at: number, length: number): void {
    this.begin(direction, length);
    this.add(bytes, at, length);
    this.end();
  }

  /** Begins a frame of `length` bytes; `add` them in their order, then `end`. */
  begin(direction: number, length: number): void {
    const kept = Math.min(length, this.#snapLength);
    const size = RECORD_BYTES + padded(kept);
    const used = (this.#position - Atomics.load(this.#head, READ)) >>> 0;
    const untilEnd = DATA_BYTES - place(this.#position);
    const skipped = size > untilEnd ? untilEnd : 0;
    this.#open = used + skipped + size <= DATA_BYTES;
    if (!this.#open) {
      Atomics.add(this.#head, DROPPED, 1);
      return;
    }
    if (skipped > 0) {
      this.#words[place(this.#position) >> 2] = SKIP;
      this.#position = (this.#position + skipped) | 0;
    }
    const word = place(this.#position) >> 2;
    const now = this.#epoch + performance.now();
    const seconds = Math.floor(now / 1000);
    this.#words[word] = kept;
    this.#words[word + 1] = length;
    this.#words[word + 2] = direction;
    this.#words[word + 3] = seconds;
    this.#words[word + 4] = (now - seconds * 1000) * 1e6;
    this.#at = place(this.#position) + RECORD_BYTES;
    this.#left = kept;
    this.#position = (this.#position + size) | 0;
  }

  add(bytes: Uint8Array, at: number, length: number): void {
    if (!this.#open) return;
    const part = Math.min(length, this.#left);
    // Only a vif that is being watched pays for the views.
    if (part > 0) this.#bytes.set(bytes.subarray(at, at + part), this.#at);
    this.#at += part;
    this.#left -= part;
  }

  end(): void {
    if (!this.#open) return;
    this.#open = false;
    Atomics.store(this.#head, WRITTEN, this.#position);
    Atomics.store(this.#bell, 0, 1);
    Atomics.notify(this.#bell, 0);
  }
}

/** A frame as the file's thread finds it; `data` is valid until the next one. */
export interface CapturedFrame {
  readonly data: Uint8Array;
  readonly length: number;
  readonly direction: number;
  readonly seconds: number;
  readonly nanoseconds: number;
}

export class CaptureReader {
  readonly #head: Int32Array;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.#head = new Int32Array(memory, 0, HEAD_BYTES / 4);
    this.#words = new Int32Array(memory, HEAD_BYTES);
    this.#bytes = new Uint8Array(memory, HEAD_BYTES);
  }

  /** Frames the writer has left out so far. */
  get dropped(): number {
    return Atomics.load(this.#head, DROPPED) >>> 0;
  }

  /** Hands over what has been written, oldest first. Returns how many frames. */
  drain(take: (frame: CapturedFrame) => void): number {
    const until = Atomics.load(this.#head, WRITTEN);
    let position = this.#head[READ]!;
    let frames = 0;
    while (position !== until) {
      const word = place(position) >> 2;
      const kept = this.#words[word]!;
      if (kept === SKIP) {
        position = (position + DATA_BYTES - place(position)) | 0;
        continue;
      }
      const at = place(position) + RECORD_BYTES;
      take({
        data: this.#bytes.subarray(at, at + kept),
        length: this.#words[word + 1]!,
        direction: this.#words[word + 2]!,
        seconds: this.#words[word + 3]! >>> 0,
        nanoseconds: this.#words[word + 4]!,
      });
      frames++;
      position = (position + RECORD_BYTES + padded(kept)) | 0;
      Atomics.store(this.#head, READ, position);
    }
    Atomics.store(this.#head, READ, position);
    return frames;
  }
}
