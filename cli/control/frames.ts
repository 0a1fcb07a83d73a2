/** Messages of the control socket: msgpack values, each after its length in bytes as a 32-bit little-endian number. */
import { pack, unpack } from 'msgpackr';

/** Longest message, bytes. */
export const MAX_FRAME = 16 * 2 ** 20;

export function frame(message: unknown): Buffer {
  const body = pack(message);
  const head = Buffer.alloc(4);
  head.writeUInt32LE(body.length);
  return Buffer.concat([head, body]);
}

/** Cuts a stream into messages. */
export class Deframer {
  #held = Buffer.alloc(0);

  /** The messages complete with this chunk. @throws RangeError when one is longer than MAX_FRAME */
  push(chunk: Buffer): unknown[] {
    this.#held = Buffer.concat([this.#held, chunk]);
    const messages: unknown[] = [];
    while (this.#held.length >= 4) {
      const length = this.#held.readUInt32LE(0);
      if (length > MAX_FRAME) throw new RangeError(`a message of ${length} bytes`);
      if (this.#held.length < 4 + length) break;
      messages.push(unpack(this.#held.subarray(4, 4 + length)));
      this.#held = this.#held.subarray(4 + length);
    }
    return messages;
  }
}
