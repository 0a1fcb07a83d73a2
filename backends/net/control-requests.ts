/** The requests of the control ring (public/io/netif.h, spec C5): each is one answer, and a change of settings if it is good. */
import { NetifCtrlStatus, NetifCtrlType, NetifHashAlgorithm } from '../../shim/abi/io/netif.js';
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import { ALL_HASH_TYPES } from './flow-hash.js';
import type { HashSettings } from './hash-settings.js';
import { TOEPLITZ_KEY_BYTES } from './toeplitz.js';
import { MAX_HASH_MAPPING } from './vif-memory.js';

const { SUCCESS, NOT_SUPPORTED, INVALID_PARAMETER } = NetifCtrlStatus;

export class ControlRequests {
  /** Of the last request's answer. */
  data = 0;
  /** The guest's bytes, copied before they are looked at. */
  readonly #copy = new Uint8Array(PAGE_SIZE);
  readonly #view = new DataView(this.#copy.buffer);

  constructor(
    readonly settings: HashSettings,
    readonly grants: ForeignGrants,
    /** Queues of the connection. */
    readonly queues: number,
  ) {}

  /** Carries out a request; arguments are unsigned 32-bit. Returns NetifCtrlStatus. */
  handle(type: number, a: number, b: number, c: number): number {
    this.data = 0;
    switch (type) {
      case NetifCtrlType.SET_HASH_ALGORITHM:
        return this.#setAlgorithm(a);
      case NetifCtrlType.GET_HASH_FLAGS:
        if (this.settings.algorithm === NetifHashAlgorithm.NONE) return NOT_SUPPORTED;
        this.data = ALL_HASH_TYPES;
        return SUCCESS;
      case NetifCtrlType.SET_HASH_FLAGS:
        return this.#setFlags(a);
      case NetifCtrlType.SET_HASH_KEY:
        return this.#setKey(a, b);
      case NetifCtrlType.GET_HASH_MAPPING_SIZE:
        this.data = MAX_HASH_MAPPING;
        return SUCCESS;
      case NetifCtrlType.SET_HASH_MAPPING_SIZE:
        if (a > MAX_HASH_MAPPING) return INVALID_PARAMETER;
        this.settings.setMappingSize(a);
        return SUCCESS;
      case NetifCtrlType.SET_HASH_MAPPING:
        return this.#setMapping(a, b, c);
      default:
        // Static grants (types 8 to 10) among them.
        return NOT_SUPPORTED;
    }
  }

  #setAlgorithm(algorithm: number): number {
    if (algorithm !== NetifHashAlgorithm.NONE && algorithm !== NetifHashAlgorithm.TOEPLITZ) return INVALID_PARAMETER;
    this.settings.setAlgorithm(algorithm);
    return SUCCESS;
  }

  #setFlags(flags: number): number {
    if ((flags & ~ALL_HASH_TYPES) !== 0) return INVALID_PARAMETER;
    if (this.settings.algorithm === NetifHashAlgorithm.NONE) return INVALID_PARAMETER;
    this.settings.setFlags(flags);
    return SUCCESS;
  }

  /** Linux answers a key that is too long with INVALID_PARAMETER, where the header says BUFFER_OVERFLOW. */
  #setKey(ref: number, length: number): number {
    if (length > TOEPLITZ_KEY_BYTES) return INVALID_PARAMETER;
    if (length > 0 && this.grants.copyFrom(ref | 0, 0, this.#copy, 0, length) !== 0) return INVALID_PARAMETER;
    this.settings.setKey(this.#copy.subarray(0, length));
    return SUCCESS;
  }

  /** All entries are looked at before the first one is set (XSA-270). */
  #setMapping(ref: number, length: number, offset: number): number {
    // Both are 32-bit and JavaScript's sum does not wrap.
    if (offset + length > this.settings.mappingSize) return INVALID_PARAMETER;
    if (length > 0 && this.grants.copyFrom(ref | 0, 0, this.#copy, 0, length * 4) !== 0) return INVALID_PARAMETER;
    const queues: number[] = [];
    for (let i = 0; i < length; i++) {
      const queue = this.#view.getUint32(i * 4, true);
      if (queue >= this.queues) return INVALID_PARAMETER;
      queues.push(queue);
    }
    this.settings.setMapping(offset, queues);
    return SUCCESS;
  }
}
