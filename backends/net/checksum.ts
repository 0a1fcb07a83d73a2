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
export function completeChecksum(bytes: Uint8Array, at: number, length: number, start: number, offset: number): boolean {
  if (start + offset + 2 > length) return false;
  const sum = ~sum16(bytes, at + start, length - start) & 0xffff;
  // Zero would mean "no checksum" to UDP, and is the same number to TCP.
  put16(bytes, at + start + offset, sum === 0 ? 0xffff : sum);
  return true;
}
