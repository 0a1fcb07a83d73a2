/** Messages of the wire protocol: a 16-byte header and at most 4096 bytes of NUL-separated strings or raw value. */
import { SockMsg } from '../abi/io/xs_wire.js';

export interface Message {
  /** XsType */
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  /** Valid only while the message is handled: what is to be kept must be copied. */
  readonly payload: Buffer;
}

/** @param payload latin1: one char per byte */
export function encode(type: number, reqId: number, txId: number, payload: string): Buffer {
  const bytes = Buffer.allocUnsafe(SockMsg.SIZE + payload.length);
  bytes.writeUInt32LE(type, SockMsg.type);
  bytes.writeUInt32LE(reqId, SockMsg.req_id);
  bytes.writeUInt32LE(txId, SockMsg.tx_id);
  bytes.writeUInt32LE(payload.length, SockMsg.len);
  bytes.write(payload, SockMsg.SIZE, 'latin1');
  return bytes;
}

/** The NUL-terminated strings of a payload; what follows the last NUL is not one of them. */
export function strings(payload: Buffer): string[] {
  const found: string[] = [];
  for (let at = 0; at < payload.length; ) {
    const end = payload.indexOf(0, at);
    if (end < 0) break;
    found.push(payload.toString('latin1', at, end));
    at = end + 1;
  }
  return found;
}

/** The payload as its only string: exactly one NUL, at the end. */
export function onlyString(payload: Buffer): string | undefined {
  const end = payload.indexOf(0);
  return end >= 0 && end === payload.length - 1 ? payload.toString('latin1', 0, end) : undefined;
}

/** A path and the raw bytes behind its NUL. */
export function pathAndValue(payload: Buffer): { path: string; value: string } | undefined {
  const end = payload.indexOf(0);
  if (end < 0) return undefined;
  return { path: payload.toString('latin1', 0, end), value: payload.toString('latin1', end + 1) };
}

/** A decimal number of at most nine digits. */
export function decimal(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}
