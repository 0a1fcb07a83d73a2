/**
 * Reads one packet off the transmit ring into a record, each slot exactly once, by the rules of spec C3 (Linux
 * xenvif_tx_build_gops). Nothing but the slots is looked at here: no grant, no frame.
 */
import { Errno } from '../../shim/abi/errno.js';
import { NetTxFlag, NETIF_EXTRA_FLAG_MORE, NetifExtraType, NetifGsoType, NetifTxRequest } from '../../shim/abi/io/netif.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import type { BackRing } from '../../shim/ring/back-ring.js';
import { MIN_FRAME } from './headers.js';
import { INVALID_GRANT_HANDLE } from '../../shim/grant-table/foreign.js';
import { MAX_ANSWERED_SLOTS, MAX_DATA_SLOTS, SLOT_WORDS, TAG_WORDS, TxSlot } from './tx-packets.js';
import type { TxPackets } from './tx-packets.js';

export const TxVerdict = Object.freeze({
  /** Complete; to be sent. */
  PACKET: 0,
  /** To be answered with ERROR in every data slot; the batch ends. */
  DROP: 1,
  /** A multicast filter request: to be answered, carries no frame. */
  MULTICAST: 2,
  /** The frontend cannot be trusted to keep the protocol: the vif stops until it reconnects. */
  FATAL: 3,
});

const REQUEST_WORDS = NetifTxRequest.SIZE / 4;

export class TxParser {
  /** Why, for FATAL: text for the log, and Xen's error number. */
  reason = '';
  errno = 0;
  /** NetifExtraType.MCAST_ADD or MCAST_DEL, for MULTICAST; the address follows, first byte highest. */
  multicast = 0;
  readonly multicastAddress = new Uint8Array(6);

  readonly #ring: BackRing;
  readonly #packets: TxPackets;
  readonly #extra = new Int32Array(2);

  constructor(ring: BackRing, packets: TxPackets) {
    this.#ring = ring;
    this.#packets = packets;
  }

  /**
   * Copies the first slot of the packet at the head, and leaves it on the ring; returns the bytes of the whole frame,
   * as the frontend has it.
   */
  first(tag: number): number {
    const packets = this.#packets;
    const first = tag * TAG_WORDS;
    packets.flags[tag] = this.#copySlot(first);
    return (packets.total[tag] = packets.words[first + TxSlot.ID_SIZE]! >>> 16);
  }

  /**
   * Copies the rest of the packet after `first` and takes it off the ring.
   * @param available slots the frontend has published, the first included
   */
  rest(tag: number, available: number): number {
    this.#ring.consume();
    const packets = this.#packets;
    packets.slots[tag] = 1;
    packets.extras[tag] = 0;
    packets.bad[tag] = 0;
    packets.gsoType[tag] = NetifGsoType.NONE;
    this.multicast = 0;
    const flags = packets.flags[tag]!;
    let extras = 0;
    let gso = false;
    if ((flags & NetTxFlag.extra_info) !== 0) {
      extras = this.#extras(tag, available - 1);
      if (extras < 0) return TxVerdict.FATAL;
      packets.extras[tag] = extras;
      gso = this.#sawGso;
      if (this.multicast !== 0) return TxVerdict.MULTICAST;
    }
    const verdict = this.#dataSlots(tag, available - 1 - extras);
    if (verdict !== TxVerdict.PACKET) return verdict;
    const first = tag * TAG_WORDS;
    const size = packets.words[first + TxSlot.ID_SIZE]! >>> 16;
    if (size < MIN_FRAME) return TxVerdict.DROP;
    const offset = packets.words[first + TxSlot.OFFSET]! & 0xffff;
    if (offset + size > PAGE_SIZE) return this.#crossesPage(offset, size);
    return gso ? this.#checkGso(tag) : TxVerdict.PACKET;
  }

  #sawGso = false;

  /** Copies the data slot at the head to the record's words; returns its flags. */
  #copySlot(into: number): number {
    const { words } = this.#packets;
    this.#ring.copyRequest(0, REQUEST_WORDS, words, into);
    words[into + TxSlot.HANDLE] = INVALID_GRANT_HANDLE;
    return words[into + TxSlot.OFFSET]! >>> 16;
  }

  /** Takes the extra slots off the ring; returns how many, or -1. */
  #extras(tag: number, available: number): number {
    const slot = this.#extra;
    const packets = this.#packets;
    this.#sawGso = false;
    let count = 0;
    let flags: number;
    do {
      if (count >= available) return this.#fatal(Errno.EINVAL, 'missing extra info'), -1;
      this.#ring.copyRequest(0, 2, slot, 0);
      this.#ring.consume();
      const low = slot[0]!;
      const high = slot[1]!;
      count++;
      const type = low & 0xff;
      flags = (low >>> 8) & 0xff;
      switch (type) {
        case NetifExtraType.GSO:
          this.#sawGso = true;
          packets.gsoSize[tag] = low >>> 16;
          packets.gsoType[tag] = high & 0xff;
          break;
        case NetifExtraType.MCAST_ADD:
        case NetifExtraType.MCAST_DEL:
          // One of each kind may come; an ADD is what counts.
          if (this.multicast === NetifExtraType.MCAST_ADD && type === NetifExtraType.MCAST_DEL) break;
          this.multicast = type;
          for (let i = 0; i < 6; i++) {
            this.multicastAddress[i] = i < 2 ? low >>> (16 + 8 * i) : high >>> (8 * (i - 2));
          }
          break;
        case NetifExtraType.HASH:
        case NetifExtraType.XDP:
          // Hints nobody asked for.
          break;
        default:
          return this.#fatal(Errno.EINVAL, `invalid extra type ${type}`), -1;
      }
    } while ((flags & NETIF_EXTRA_FLAG_MORE) !== 0);
    return count;
  }

  /**
   * Copies the data slots after the first and subtracts their sizes from it. The order of the checks is part of the
   * contract: a frontend's 20th slot costs it a packet, its 22nd the connection.
   */
  #dataSlots(tag: number, available: number): number {
    const packets = this.#packets;
    const { words } = packets;
    const first = tag * TAG_WORDS;
    const firstId = words[first + TxSlot.ID_SIZE]! & 0xffff;
    let left = packets.total[tag]!;
    let drop = false;
    let beside = 0;
    let more = packets.flags[tag]! & NetTxFlag.more_data;
    while (more !== 0) {
      if (beside >= available) return this.#fatal(Errno.ENODATA, `asked for ${beside} slots but they are not there`);
      if (beside >= MAX_ANSWERED_SLOTS - 1) return this.#fatal(Errno.E2BIG, `too many slots (${beside + 1})`);
      if (beside >= MAX_DATA_SLOTS - 1) drop = true;
      const slot = first + (1 + beside) * SLOT_WORDS;
      more = this.#copySlot(slot) & NetTxFlag.more_data;
      this.#ring.consume();
      beside++;
      const size = words[slot + TxSlot.ID_SIZE]! >>> 16;
      const offset = words[slot + TxSlot.OFFSET]! & 0xffff;
      // A frame of 64 KiB or more wraps the first slot's size; some frontends do that, and lose the frame only.
      if (!drop && size > left) drop = true;
      left -= size;
      if (offset + size > PAGE_SIZE) return this.#crossesPage(offset, size);
    }
    packets.slots[tag] = 1 + beside;
    words[first + TxSlot.ID_SIZE] = firstId | (left << 16);
    return drop ? TxVerdict.DROP : TxVerdict.PACKET;
  }

  #checkGso(tag: number): number {
    const type = this.#packets.gsoType[tag]!;
    if (this.#packets.gsoSize[tag] === 0) return this.#fatal(Errno.EINVAL, 'GSO size must not be zero');
    if (type !== NetifGsoType.TCPV4 && type !== NetifGsoType.TCPV6) {
      return this.#fatal(Errno.EINVAL, `bad GSO type ${type}`);
    }
    return TxVerdict.PACKET;
  }

  #crossesPage(offset: number, size: number): number {
    return this.#fatal(Errno.EINVAL, `slot crosses a page: offset ${offset}, size ${size}`);
  }

  #fatal(errno: number, reason: string): number {
    this.errno = errno;
    this.reason = reason;
    return TxVerdict.FATAL;
  }
}
