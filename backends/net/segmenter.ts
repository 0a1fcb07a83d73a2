/**
 * TCP segmentation for links that take finished frames only, by the rules a NIC keeps (RFC 9293 for what a segment is, Linux
 * tcp_gso_segment for what becomes of flags and IPv4 ids). What is cut up came from a guest: nothing in it is believed.
 */
import { completeChecksum, putPseudoHeaderSum, sum16 } from './checksum.js';
import { Ip, TransportHeaders } from './headers.js';
import { VnetGso } from './vnet-header.js';

/** Offsets in the IPv4, IPv6 and TCP headers. */
const IP4 = { TOTAL_LENGTH: 2, ID: 4, CHECKSUM: 10 } as const;
const IP6_PAYLOAD_LENGTH = 4;
const IP6_HEADER = 40;
const TCP = { SEQUENCE: 4, FLAGS: 13 } as const;
/** FIN and PSH belong to the last segment, CWR to the first. */
const FIN_PSH = 0x09;
const CWR = 0x80;

export class Segmenter {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #headers = new TransportHeaders();

  /** @param bytes where frames lie and segments go */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /**
   * Cuts a TCP frame of `length` bytes at byte `at` into segments with `size` bytes of payload, and puts them one after
   * the other at byte `into`, each after `prefix` bytes with its length, big-endian.
   * @param gsoType VnetGso of the frame
   * @param room bytes there may be in all
   * @returns bytes they take with their lengths; 0 when this is no such frame, or its segments need more room
   */
  cut(at: number, length: number, gsoType: number, size: number, into: number, room: number, prefix: number): number {
    const headers = this.#headers;
    const version = gsoType === VnetGso.TCPV4 ? 4 : gsoType === VnetGso.TCPV6 ? 6 : 0;
    if (size === 0 || !headers.parse(this.#bytes, at, length)) return 0;
    if (headers.protocol !== Ip.TCP || headers.version !== version) return 0;
    const { end } = headers;
    const payload = length - end;
    const count = Math.max(1, Math.ceil(payload / size));
    const total = count * (prefix + end) + payload;
    if (total > room) return 0;
    let target = into;
    for (let done = 0, i = 0; i < count; i++, done += size) {
      const part = Math.min(size, payload - done);
      this.#view.setUint32(target + prefix - 4, end + part);
      target += prefix;
      this.#bytes.copyWithin(target, at, at + end);
      this.#bytes.copyWithin(target + end, at + end + done, at + end + done + part);
      this.#finish(target, end + part, i, done, i === count - 1);
      target += end + part;
    }
    return total;
  }

  /** Makes the headers of segment `index` say what it is. `done` bytes of payload are in those before it. */
  #finish(at: number, length: number, index: number, done: number, last: boolean): void {
    const view = this.#view;
    const bytes = this.#bytes;
    const { network, transport, version } = this.#headers;
    const ip = at + network;
    if (version === 4) {
      view.setUint16(ip + IP4.TOTAL_LENGTH, length - network);
      view.setUint16(ip + IP4.ID, view.getUint16(ip + IP4.ID) + index);
      view.setUint16(ip + IP4.CHECKSUM, 0);
      view.setUint16(ip + IP4.CHECKSUM, ~sum16(bytes, ip, transport - network));
    } else {
      view.setUint16(ip + IP6_PAYLOAD_LENGTH, length - network - IP6_HEADER);
    }
    const tcp = at + transport;
    view.setUint32(tcp + TCP.SEQUENCE, view.getUint32(tcp + TCP.SEQUENCE) + done);
    const flags = bytes[tcp + TCP.FLAGS]!;
    bytes[tcp + TCP.FLAGS] = flags & ~(last ? 0 : FIN_PSH) & ~(index > 0 ? CWR : 0);
    putPseudoHeaderSum(bytes, at, length, this.#headers);
    completeChecksum(view, at, length, transport, this.#headers.csumOffset);
  }
}
