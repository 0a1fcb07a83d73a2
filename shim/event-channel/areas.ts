/**
 * Where the structures of event delivery are right now: the shared_info page, and for each vCPU its vcpu_info (inside
 * shared_info for the first 32, elsewhere once registered). The domain moves them; delivery reads them.
 */
import { LEGACY_MAX_VCPUS, VcpuInfo64 } from '../abi/xen.js';
import { EventBits, VcpuUpcall, type Place } from './two-level.js';

export class EventAreas {
  #bits: EventBits;
  #long: boolean;
  /** The kernel knows shared_info, so it delivers. */
  #shown = false;
  readonly #registered = new Map<number, Place>();

  /** @param home the shared_info page while the guest has not placed it */
  constructor(home: Place, long: boolean) {
    this.#long = long;
    this.#bits = new EventBits(home, long);
  }

  get bits(): EventBits {
    return this.#bits;
  }

  get long(): boolean {
    return this.#long;
  }

  /** The layout was latched to the other width. */
  set long(long: boolean) {
    this.#long = long;
    this.#bits = new EventBits(this.#bits.place, long);
  }

  /** shared_info moved; `shown` = the kernel was told where it is. */
  moveSharedInfo(place: Place, shown: boolean): void {
    this.#bits = new EventBits(place, this.#long);
    this.#shown = shown;
  }

  /** A vCPU has a vcpu_info of its own. */
  registered(vcpu: number): boolean {
    return this.#registered.has(vcpu);
  }

  register(vcpu: number, place: Place): void {
    this.#registered.set(vcpu, place);
  }

  /** The place of a vcpu_info; undefined for a vCPU beyond the 32 of shared_info that registered none. */
  vcpuInfo(vcpu: number): Place | undefined {
    const own = this.#registered.get(vcpu);
    if (own !== undefined) return own;
    if (vcpu >= LEGACY_MAX_VCPUS) return undefined;
    const { u8, i32, at } = this.#bits.place;
    return { u8, i32, at: at + vcpu * VcpuInfo64.SIZE };
  }

  upcall(vcpu: number): VcpuUpcall | undefined {
    const place = this.vcpuInfo(vcpu);
    return place && new VcpuUpcall(place, this.#long);
  }

  /** True when the kernel can raise events on this vCPU; until then they are set in memory only. */
  kernelDelivers(vcpu: number): boolean {
    return this.#shown && (vcpu < LEGACY_MAX_VCPUS || this.#registered.has(vcpu));
  }

  /** Back to the state of a fresh machine. */
  reset(home: Place, long: boolean): void {
    this.#registered.clear();
    this.#long = long;
    this.moveSharedInfo(home, false);
  }
}
