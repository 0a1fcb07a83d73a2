/** Extra slots of received frames, between a frame's arrival and its delivery: segmentation, hash, XDP headroom. */
import { NETIF_EXTRA_FLAG_MORE, NetifExtraType, NetifGsoType, NetifHashAlgorithm } from '../../shim/abi/io/netif.js';
import type { BackRing } from '../../shim/ring/back-ring.js';
import { NO_HASH, type FlowHash } from './flow-hash.js';
import type { RxOffload } from './rx-offload.js';

const MORE = NETIF_EXTRA_FLAG_MORE << 8;

/** By receive buffer. */
export class RxExtras {
  /** Extra slots of the frame. */
  readonly count: Uint8Array;
  /** Bytes before the frame in its first slot. */
  readonly headroom: Uint16Array;
  readonly #gsoType: Uint8Array;
  readonly #gsoSize: Uint16Array;
  readonly #hashType: Int8Array;
  readonly #hash: Int32Array;

  constructor(buffers: number) {
    this.count = new Uint8Array(buffers);
    this.headroom = new Uint16Array(buffers);
    this.#gsoType = new Uint8Array(buffers);
    this.#gsoSize = new Uint16Array(buffers);
    this.#hashType = new Int8Array(buffers);
    this.#hash = new Int32Array(buffers);
  }

  /** Keeps what has just been found out about the frame in a buffer. Returns how many extra slots it takes. */
  note(buffer: number, offload: RxOffload, flow: FlowHash, headroom: number): number {
    this.#gsoType[buffer] = offload.gsoType;
    this.#gsoSize[buffer] = offload.gsoSize;
    this.#hashType[buffer] = flow.type;
    this.#hash[buffer] = flow.value;
    this.headroom[buffer] = headroom;
    let count = headroom > 0 ? 1 : 0;
    if (offload.gsoType !== NetifGsoType.NONE) count++;
    if (flow.type !== NO_HASH) count++;
    return (this.count[buffer] = count);
  }

  /** Writes them into the slots after the first, in the order of their types, as Linux does. */
  push(ring: BackRing, buffer: number): void {
    let left = this.count[buffer]!;
    if (this.#gsoType[buffer] !== NetifGsoType.NONE) {
      extra(ring, --left, NetifExtraType.GSO, this.#gsoSize[buffer]!, this.#gsoType[buffer]!);
    }
    if (this.#hashType[buffer] !== NO_HASH) {
      const kind = this.#hashType[buffer]! | (NetifHashAlgorithm.TOEPLITZ << 8);
      extra(ring, --left, NetifExtraType.HASH, kind, this.#hash[buffer]!);
    }
    if (this.headroom[buffer]! > 0) extra(ring, --left, NetifExtraType.XDP, this.headroom[buffer]!, 0);
  }
}

/** @param body the two bytes after type and flags; `word` are the last four */
function extra(ring: BackRing, left: number, type: number, body: number, word: number): void {
  ring.consume();
  ring.setResponseWord(0, type | (left > 0 ? MORE : 0) | (body << 16));
  ring.setResponseWord(1, word);
  ring.pushResponse();
}
