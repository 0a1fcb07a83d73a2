/** Finds the transport header of a frame: what a checksum or a segmentation needs to know, and no more. */

const ETH_HEADER = 14;
const ETH_VLAN = 0x8100;
const ETH_QINQ = 0x88a8;
const ETH_IPV4 = 0x0800;
const ETH_IPV6 = 0x86dd;
/** Tags in front of the network header that are looked through. */
const MAX_VLAN_TAGS = 2;

export const Ip = Object.freeze({ TCP: 6, UDP: 17 });

/** IPv6 headers that may stand before the transport header. */
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION = 60;

const TCP_MIN_HEADER = 20;
const UDP_HEADER = 8;

/** One parser per queue, its fields overwritten by each `parse`: nothing is allocated per frame. */
export class TransportHeaders {
  /** 4 or 6. */
  version = 0;
  /** Ip.TCP or Ip.UDP. */
  protocol = 0;
  /** Offsets from the start of the frame. */
  network = 0;
  transport = 0;
  /** Offset of the checksum field within the transport header. */
  csumOffset = 0;
  /** End of the transport header, from the start of the frame. */
  end = 0;

  /**
   * Parses the first `length` bytes of a frame at `at`. False when this is not TCP or UDP over IPv4 or IPv6, when it is
   * a fragment (its checksum does not cover it), or when the headers do not fit into `length`.
   */
  parse(frame: Uint8Array, at: number, length: number): boolean {
    let type = 12;
    for (let tags = 0; ; tags++) {
      if (type + 2 > length) return false;
      const ethertype = (frame[at + type]! << 8) | frame[at + type + 1]!;
      type += 2;
      if (ethertype === ETH_IPV4) return this.#parse4(frame, at, length, type);
      if (ethertype === ETH_IPV6) return this.#parse6(frame, at, length, type);
      if ((ethertype !== ETH_VLAN && ethertype !== ETH_QINQ) || tags === MAX_VLAN_TAGS) return false;
      type += 2;
    }
  }

  #parse4(frame: Uint8Array, at: number, length: number, network: number): boolean {
    if (network + 20 > length) return false;
    const ip = at + network;
    const headerLength = (frame[ip]! & 15) * 4;
    if (frame[ip]! >> 4 !== 4 || headerLength < 20) return false;
    // More fragments, or not the first one.
    if (((frame[ip + 6]! & 0x3f) | frame[ip + 7]!) !== 0) return false;
    this.version = 4;
    this.network = network;
    return this.#transport(frame, at, length, network + headerLength, frame[ip + 9]!);
  }

  #parse6(frame: Uint8Array, at: number, length: number, network: number): boolean {
    if (network + 40 > length || frame[at + network]! >> 4 !== 6) return false;
    this.version = 6;
    this.network = network;
    let next = frame[at + network + 6]!;
    let offset = network + 40;
    // Every extension header is at least 8 bytes, so `length` bounds the walk.
    for (;;) {
      switch (next) {
        case HOP_BY_HOP:
        case ROUTING:
        case DESTINATION:
        case FRAGMENT:
        case AUTHENTICATION: {
          if (offset + 8 > length) return false;
          const header = at + offset;
          if (next === FRAGMENT) {
            if (frame[header + 2] !== 0 || (frame[header + 3]! & ~6) !== 0) return false;
            offset += 8;
          } else {
            offset += next === AUTHENTICATION ? (frame[header + 1]! + 2) * 4 : (frame[header + 1]! + 1) * 8;
          }
          next = frame[header]!;
          break;
        }
        default:
          return this.#transport(frame, at, length, offset, next);
      }
    }
  }

  #transport(frame: Uint8Array, at: number, length: number, offset: number, protocol: number): boolean {
    this.transport = offset;
    this.protocol = protocol;
    if (protocol === Ip.TCP) {
      if (offset + TCP_MIN_HEADER > length) return false;
      const headerLength = (frame[at + offset + 12]! >> 4) * 4;
      this.csumOffset = 16;
      this.end = offset + headerLength;
      return headerLength >= TCP_MIN_HEADER && this.end <= length;
    }
    if (protocol === Ip.UDP) {
      this.csumOffset = 6;
      this.end = offset + UDP_HEADER;
      return this.end <= length;
    }
    return false;
  }
}

/** Bytes of headers a frame is parsed from; Linux gives up at the same length (MAX_IPV6_HDR_LEN of checksum set-up). */
export const HEADER_COPY = 256;
/** What is copied at first: enough for a tag and TCP with all options over IPv4, or plain TCP over IPv6. */
export const HEADER_START = 96;

export const MIN_FRAME = ETH_HEADER;
