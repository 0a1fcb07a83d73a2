/** The Internet checksum (RFC 1071), for the frames nobody else completes. */
import type { TransportHeaders } from './headers.js';

/** One's complement sum of big-endian 16-bit words, folded to 16 bits; an odd last byte counts as a high one. */
export function sum16(bytes: Uint8Array, at: number, length: number, start = 0): number {
  let sum = start;
  const even = at + (length & ~1);
  for (let i = at; i < even; i += 2) {
    sum += (bytes[i]! << 8) | bytes[i + 1]!;
    // Fold before the sum leaves 31-bit integers.
    if (sum > 0x3fff0000) sum = (sum & 0xffff) + (sum >>> 16);
  }
  if ((length & 1) !== 0) sum += bytes[even]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value & 0xff;
}

/**
 * Writes the sum of the pseudo-header into the checksum field, not complemented: the form in which a frame with a blank
 * checksum is handed on.
 * @param frameLength bytes of the whole frame
 */
export function putPseudoHeaderSum(bytes: Uint8Array, at: number, frameLength: number, headers: TransportHeaders): void {
  const ip = at + headers.network;
  const start = frameLength - headers.transport + headers.protocol;
  const sum = headers.version === 4 ? sum16(bytes, ip + 12, 8, start) : sum16(bytes, ip + 8, 32, start);
  put16(bytes, at + headers.transport + headers.csumOffset, sum);
}

/**
 * Completes a checksum whose field holds the pseudo-header's sum. False when the field lies outside the frame.
 * @param start where the sum begins, from the start of the frame
 * @param offset of the field, from `start`
 */
export function completeChecksum(view: DataView, at: number, length: number, start: number, offset: number): boolean {
  if (start + offset + 2 > length) return false;
  const sum = ~sumLong(view, at + start, length - start) & 0xffff;
  // Zero would mean "no checksum" to UDP, and is the same number to TCP.
  view.setUint16(at + start + offset, sum === 0 ? 0xffff : sum);
  return true;
}

/** Words of four bytes that are added before the sum is folded: it stays below 2^31. */
const UNFOLDED_BYTES = 32 * 1024;

/**
 * What sum16 has, for many bytes: four at a time and in the machine's order, which the sum does not depend on but for the
 * order of its own two bytes (RFC 1071, 2B).
 */
export function sumLong(view: DataView, at: number, length: number): number {
  const end = at + length;
  const whole = at + (length & ~3);
  let sum = 0;
  for (let i = at; i < whole; ) {
    const stop = Math.min(whole, i + UNFOLDED_BYTES);
    for (; i < stop; i += 4) {
      const word = view.getInt32(i, true);
      sum += (word & 0xffff) + (word >>> 16);
    }
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  let i = whole;
  if (end - i >= 2) {
    sum += view.getUint16(i, true);
    i += 2;
  }
  if (i < end) sum += view.getUint8(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return (sum >>> 8) | ((sum & 0xff) << 8);
}
