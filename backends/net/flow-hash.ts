/** The hash of a frame by the frontend's settings, and the queue it belongs to (spec C5). One per queue. */
import { NetifHashAlgorithm, NetifHashType, NetifHashTypeBit } from '../../shim/abi/io/netif.js';
import { HashSettings } from './hash-settings.js';
import { Ip, TransportHeaders } from './headers.js';
import { Toeplitz } from './toeplitz.js';
import { MAX_HASH_MAPPING } from './vif-memory.js';

/** The type of a frame that none of the wanted types fits: its hash counts as 0. */
export const NO_HASH = -1;

const ETH_TYPE = 12;
const ETH_VLAN = 0x8100;
const ETH_QINQ = 0x88a8;
const ETH_IPV4 = 0x0800;
const ETH_IPV6 = 0x86dd;
/** As far as TransportHeaders looks. */
const MAX_VLAN_TAGS = 2;
/** Headers are searched in at most this much of a frame. */
const SEARCHED = 256;
const PORTS = 4;

export class FlowHash {
  /** Of the last frame: NetifHashTypeBit, or NO_HASH. */
  type = NO_HASH;
  /** Signed 32 bits. */
  value = 0;

  readonly #settings: HashSettings;
  readonly #queues: number;
  readonly #toeplitz = new Toeplitz();
  readonly #headers = new TransportHeaders();
  readonly #mapping = new Int32Array(MAX_HASH_MAPPING);
  #generation = -1;
  #on = false;
  #flags = 0;
  #mappingSize = 0;

  constructor(memory: SharedArrayBuffer, queues: number) {
    this.#settings = new HashSettings(memory);
    this.#queues = queues;
  }

  /** Whether the frontend has asked for hashes. */
  get on(): boolean {
    if (this.#settings.generation !== this.#generation) this.#takeOver();
    return this.#on;
  }

  /** Hashes the frame at `at`. Returns its queue, or -1 when the choice is the host's. */
  queue(frame: Uint8Array, at: number, length: number): number {
    this.type = NO_HASH;
    if (this.#settings.generation !== this.#generation) this.#takeOver();
    if (!this.#on) return -1;
    this.value = 0;
    this.#hash(frame, at, Math.min(length, SEARCHED));
    const value = this.value >>> 0;
    return this.#mappingSize === 0 ? value % this.#queues : this.#mapping[value % this.#mappingSize]!;
  }

  /** Takes settings that are settled; while they change, those before apply. */
  #takeOver(): void {
    const settings = this.#settings;
    const { generation } = settings;
    if ((generation & 1) !== 0) return;
    const { algorithm, flags, mappingSize } = settings;
    const key = settings.key.slice();
    for (let i = 0; i < MAX_HASH_MAPPING; i++) this.#mapping[i] = settings.queue(i);
    if (settings.generation !== generation) return;
    this.#on = algorithm === NetifHashAlgorithm.TOEPLITZ;
    this.#flags = flags;
    this.#mappingSize = mappingSize;
    if (this.#on) this.#toeplitz.setKey(key);
    this.#generation = generation;
  }

  #hash(frame: Uint8Array, at: number, length: number): void {
    let type = ETH_TYPE;
    for (let tags = 0; tags <= MAX_VLAN_TAGS && type + 2 <= length; tags++, type += 4) {
      const ethertype = (frame[at + type]! << 8) | frame[at + type + 1]!;
      if (ethertype === ETH_IPV4) {
        this.#hashIp(frame, at, length, type + 2, 12, 8, NetifHashTypeBit.IPV4, NetifHashTypeBit.IPV4_TCP);
        return;
      }
      if (ethertype === ETH_IPV6) {
        this.#hashIp(frame, at, length, type + 2, 8, 32, NetifHashTypeBit.IPV6, NetifHashTypeBit.IPV6_TCP);
        return;
      }
      if (ethertype !== ETH_VLAN && ethertype !== ETH_QINQ) return;
    }
  }

  /** @param addresses offset of the two addresses in the network header; `bytes` is the length of both */
  #hashIp(
    frame: Uint8Array, at: number, length: number, network: number, addresses: number, bytes: number,
    plain: number, withPorts: number,
  ): void {
    const from = network + addresses;
    if (from + bytes > length) return;
    const wantsPorts = (this.#flags & (1 << withPorts)) !== 0;
    const headers = this.#headers;
    if (wantsPorts && headers.parse(frame, at, length) && headers.protocol === Ip.TCP) {
      this.type = withPorts;
      const ports = this.#toeplitz.part(frame, at + headers.transport, PORTS, bytes);
      this.value = this.#toeplitz.part(frame, at + from, bytes, 0) ^ ports;
    } else if ((this.#flags & (1 << plain)) !== 0) {
      this.type = plain;
      this.value = this.#toeplitz.part(frame, at + from, bytes, 0);
    }
  }
}

/** All a frontend may ask for. */
export const ALL_HASH_TYPES = NetifHashType.IPV4 | NetifHashType.IPV4_TCP | NetifHashType.IPV6 | NetifHashType.IPV6_TCP;
