/** What a transmit slot's flags and GSO extra mean to the link: the virtio-net header in front of the frame. */
import { NetifGsoType, NetTxFlag } from '../../shim/abi/io/netif.js';
import type { Arena } from './arena.js';
import { putPseudoHeaderSum } from './checksum.js';
import { Ip, TransportHeaders } from './headers.js';
import type { TxPackets } from './tx-packets.js';
import { VnetGso, VnetHeader, writeCsumHeader, writeGsoHeader, writePlainHeader } from './vnet-header.js';

export class TxOffload {
  readonly #arena: Arena;
  readonly #headers = new TransportHeaders();

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /**
   * Writes the header at byte `at` of the arena. The private copy of the frame's first `copied` bytes follows it, and is
   * all that is looked at. False when the headers are not what the offload needs.
   */
  write(packets: TxPackets, tag: number, at: number, copied: number): boolean {
    const { view, u8 } = this.#arena;
    const gsoType = packets.gsoType[tag]!;
    const blank = (packets.flags[tag]! & NetTxFlag.csum_blank) !== 0;
    if (gsoType === NetifGsoType.NONE && !blank) {
      writePlainHeader(view, at);
      return true;
    }
    const frame = at + VnetHeader.SIZE;
    const headers = this.#headers;
    if (!headers.parse(u8, frame, copied)) return false;
    if (gsoType === NetifGsoType.NONE) {
      writeCsumHeader(view, at, headers.transport, headers.csumOffset);
      return true;
    }
    const version = gsoType === NetifGsoType.TCPV4 ? 4 : 6;
    if (headers.protocol !== Ip.TCP || headers.version !== version) return false;
    // Some frontends segment but forget to say the checksum is blank; what is in the field is then a whole one.
    if (!blank) putPseudoHeaderSum(u8, frame, packets.total[tag]!, headers);
    const type = version === 4 ? VnetGso.TCPV4 : VnetGso.TCPV6;
    writeGsoHeader(view, at, headers.transport, headers.csumOffset, type, packets.gsoSize[tag]!, headers.end);
    return true;
  }
}
