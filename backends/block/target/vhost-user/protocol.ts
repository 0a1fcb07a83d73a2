/**
 * Messages of vhost-user as a front end sends them (QEMU's docs/interop/vhost-user.rst). Negotiation only: requests of
 * the disk go through the virtqueues. A message is a header of request, flags and size, and a payload.
 */
import { receiveInto, sendWith } from '../../../../shim/io/unix-stream.js';

/** VHOST_USER_*. */
export const Message = Object.freeze({
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  GET_CONFIG: 24,
  ADD_MEM_REG: 37,
} as const);

/** VHOST_USER_PROTOCOL_F_*, as bits. */
export const ProtocolFeature = Object.freeze({
  MQ: 1n << 0n,
  REPLY_ACK: 1n << 3n,
  CONFIG: 1n << 9n,
  CONFIGURE_MEM_SLOTS: 1n << 15n,
} as const);

/** Regions SET_MEM_TABLE takes (VHOST_MEMORY_BASELINE_NREGIONS). */
export const MAX_TABLE_REGIONS = 8;

const HEADER_BYTES = 12;
const VERSION = 1;
const REPLY = 1 << 2;
const NEED_REPLY = 1 << 3;
/** ms a back end that has begun to talk gets for an answer. */
const PATIENCE = 10_000;
const MAX_REPLY = 4096;

/** One connection to a back end. Everything throws an Error when the other side is gone or talks nonsense. */
export class VhostChannel {
  /** The back end confirms every message when asked to (REPLY_ACK). */
  confirms = false;

  constructor(readonly fd: number) {}

  send(request: number, payload: Uint8Array = new Uint8Array(0), fds: readonly number[] = [], flags = 0): void {
    const message = Buffer.alloc(HEADER_BYTES + payload.length);
    message.writeUInt32LE(request, 0);
    message.writeUInt32LE(VERSION | flags, 4);
    message.writeUInt32LE(payload.length, 8);
    message.set(payload, HEADER_BYTES);
    sendWith(this.fd, message, fds);
  }

  /** The answer to `request`: its payload. */
  receive(request: number): Buffer {
    const header = Buffer.alloc(HEADER_BYTES);
    this.#fill(header, request);
    const size = header.readUInt32LE(8);
    if (header.readUInt32LE(0) !== request || (header.readUInt32LE(4) & REPLY) === 0 || size > MAX_REPLY) {
      throw new Error(`vhost-user: no answer to message ${request}`);
    }
    const payload = Buffer.alloc(size);
    this.#fill(payload, request);
    return payload;
  }

  ask(request: number, payload?: Uint8Array): Buffer {
    this.send(request, payload);
    return this.receive(request);
  }

  askU64(request: number): bigint {
    const payload = this.ask(request);
    if (payload.length !== 8) throw new Error(`vhost-user: message ${request} answered with ${payload.length} bytes`);
    return payload.readBigUInt64LE();
  }

  /** Sends something that has no answer of its own, and sees that it was accepted. */
  tell(request: number, payload: Uint8Array, fds: readonly number[] = []): void {
    this.send(request, payload, fds, this.confirms ? NEED_REPLY : 0);
    if (!this.confirms) return;
    const refused = this.receive(request).readBigUInt64LE();
    if (refused !== 0n) throw new Error(`vhost-user: message ${request} was refused`);
  }

  #fill(buffer: Buffer, request: number): void {
    const outcome = receiveInto(this.fd, buffer, PATIENCE);
    if (outcome !== true) throw new Error(`vhost-user: ${outcome} instead of an answer to message ${request}`);
  }
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

/** `struct vhost_vring_state`. */
export function ringState(index: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(index, 0);
  bytes.writeUInt32LE(value, 4);
  return bytes;
}

/** `struct vhost_vring_addr`; addresses are those of our own process. */
export function ringAddresses(index: number, desc: number, used: number, avail: number): Buffer {
  const bytes = Buffer.alloc(40);
  bytes.writeUInt32LE(index, 0);
  bytes.writeBigUInt64LE(BigInt(desc), 8);
  bytes.writeBigUInt64LE(BigInt(used), 16);
  bytes.writeBigUInt64LE(BigInt(avail), 24);
  return bytes;
}
