/** What a frame's virtio-net header means to the guest, and the work the guest cannot do, done here. */
import { NetifGsoType, NetRxFlag } from '../../shim/abi/io/netif.js';
import type { Arena } from './arena.js';
import { completeChecksum } from './checksum.js';
import type { Offloads } from './link.js';
import { VnetFlag, VnetGso, VnetHeader } from './vnet-header.js';

const ETH_TYPE = 12;
const ETH_IPV4 = 0x0800;
const ETH_IPV6 = 0x86dd;

export class RxOffload {
  /** Of the frame accepted last: NetRxFlag bits of its first slot. */
  flags = 0;
  /** NetifGsoType, and the size of its segments. */
  gsoType: number = NetifGsoType.NONE;
  gsoSize = 0;

  readonly #arena: Arena;
  readonly #offloads: Offloads;

  constructor(arena: Arena, offloads: Offloads) {
    this.#arena = arena;
    this.#offloads = offloads;
  }

  /** Reads the header at byte `at`; the frame of `length` bytes follows it. False if the frontend cannot take it. */
  accept(at: number, length: number): boolean {
    const { view } = this.#arena;
    const frame = at + VnetHeader.SIZE;
    const flags = view.getUint8(at + VnetHeader.flags);
    if (!this.#takeGso(view.getUint8(at + VnetHeader.gso_type) & ~VnetGso.ECN)) return false;
    this.gsoSize = view.getUint16(at + VnetHeader.gso_size, true);
    this.flags = (flags & VnetFlag.DATA_VALID) !== 0 ? NetRxFlag.data_validated : 0;
    if ((flags & VnetFlag.NEEDS_CSUM) === 0) return true;
    if (this.gsoType !== NetifGsoType.NONE || this.#takesBlank(frame)) {
      this.flags = NetRxFlag.csum_blank | NetRxFlag.data_validated;
      return true;
    }
    const start = view.getUint16(at + VnetHeader.csum_start, true);
    const offset = view.getUint16(at + VnetHeader.csum_offset, true);
    return completeChecksum(view, frame, length, start, offset);
  }

  /**
   * Judges a frame by the first two words of its header, where it lies in the guest's memory. False if the frontend
   * cannot take it, or not without work on it.
   */
  acceptAsIs(word0: number, word1: number): boolean {
    if (!this.#takeGso((word0 >>> 8) & 0xff & ~VnetGso.ECN)) return false;
    this.gsoSize = word1 & 0xffff;
    this.flags = (word0 & VnetFlag.DATA_VALID) !== 0 ? NetRxFlag.data_validated : 0;
    if ((word0 & VnetFlag.NEEDS_CSUM) === 0) return true;
    this.flags = NetRxFlag.csum_blank | NetRxFlag.data_validated;
    const { csum4, csum6 } = this.#offloads;
    return this.gsoType !== NetifGsoType.NONE || (csum4 && csum6);
  }

  /** Whether a header's first word announces segments the frontend takes. */
  isGso(word0: number): boolean {
    return this.#takeGso((word0 >>> 8) & 0xff & ~VnetGso.ECN) && this.gsoType !== NetifGsoType.NONE;
  }

  #takeGso(type: number): boolean {
    this.gsoType = NetifGsoType.NONE;
    if (type === VnetGso.TCPV4 && this.#offloads.tso4) this.gsoType = NetifGsoType.TCPV4;
    else if (type === VnetGso.TCPV6 && this.#offloads.tso6) this.gsoType = NetifGsoType.TCPV6;
    else return type === VnetGso.NONE;
    return true;
  }

  /** Whether a frame's checksum may stay blank: the link's switch is for both protocols, the frontend's are not. */
  #takesBlank(frame: number): boolean {
    const { csum4, csum6 } = this.#offloads;
    if (csum4 === csum6) return csum4;
    const { u8 } = this.#arena;
    const type = (u8[frame + ETH_TYPE]! << 8) | u8[frame + ETH_TYPE + 1]!;
    return type === ETH_IPV4 ? csum4 : type === ETH_IPV6 ? csum6 : false;
  }
}
