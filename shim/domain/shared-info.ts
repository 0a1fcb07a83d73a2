/**
 * The shared_info page: in a page of ours until the guest places it, then wherever it says, contents and all. Placed
 * over a hole our own page is shown there; placed in RAM (Linux does so below 1 MiB) that page of RAM is used, because
 * no memory slot can lie over another.
 */
import type { Bridge } from '../../kvm/bridge.js';
import { LEGACY_MAX_VCPUS, VcpuInfo64 } from '../abi/xen.js';
import type { EventAreas } from '../event-channel/areas.js';
import type { EventChannels } from '../event-channel/event-channels.js';
import type { Place } from '../event-channel/two-level.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import type { P2m } from '../memory/p2m.js';
import { kvmResult } from './kvm-result.js';
import { OwnPage } from './own-pages.js';

export class SharedInfoPage {
  readonly #bridge: Bridge;
  readonly #p2m: P2m;
  readonly #areas: EventAreas;
  readonly #channels: () => EventChannels;
  #gfn: number | undefined;

  constructor(bridge: Bridge, p2m: P2m, areas: EventAreas, channels: () => EventChannels) {
    this.#bridge = bridge;
    this.#p2m = p2m;
    this.#areas = areas;
    this.#channels = channels;
  }

  /** Where the guest sees it. */
  get gfn(): number | undefined {
    return this.#gfn;
  }

  get home(): Place {
    return this.#p2m.ownPlace(OwnPage.SHARED_INFO);
  }

  /** Shows it at `gfn`, at which nothing else of ours is left. Returns 0 or a negative errno; then it is at home. */
  place(gfn: number): number {
    if (gfn === this.#gfn) return 0;
    this.takeHome();
    const inRam = this.#p2m.backed(gfn);
    if (!inRam) {
      const placed = kvmResult(() => this.#bridge.placeOwnPage(gfn, OwnPage.SHARED_INFO));
      if (placed < 0) return placed;
      this.#p2m.lay(gfn, OwnPage.SHARED_INFO);
    } else {
      this.#p2m.borrow(gfn);
    }
    const place = this.#p2m.locate(gfn)!;
    if (inRam) copyPage(this.home, place);
    this.#gfn = gfn;
    const told = kvmResult(() => this.#bridge.setSharedInfo(gfn));
    if (told < 0) {
      this.takeHome();
      return told;
    }
    this.#areas.moveSharedInfo(place, true);
    for (const vcpu of this.#bridge.vcpus()) {
      this.adopt(vcpu);
      this.#channels().redeliver(vcpu, true);
    }
    return 0;
  }

  /** Tells the kernel where the vcpu_info of a vCPU is that has none but the one in here. */
  adopt(vcpu: number): void {
    if (this.#gfn === undefined || vcpu >= LEGACY_MAX_VCPUS || this.#areas.registered(vcpu)) return;
    const gpa = this.#gfn * PAGE_SIZE + vcpu * VcpuInfo64.SIZE;
    kvmResult(() => this.#bridge.setVcpuInfo(vcpu, gpa));
  }

  /** Takes it out of the guest's sight, contents kept. */
  takeHome(): void {
    const gfn = this.#gfn;
    if (gfn === undefined) return;
    this.#gfn = undefined;
    for (const vcpu of this.#bridge.vcpus()) {
      if (vcpu < LEGACY_MAX_VCPUS && !this.#areas.registered(vcpu)) {
        kvmResult(() => this.#bridge.setVcpuInfo(vcpu, undefined));
      }
    }
    kvmResult(() => this.#bridge.setSharedInfo(undefined));
    if (this.#p2m.lift(gfn) !== undefined) {
      kvmResult(() => this.#bridge.removeOwnPage(gfn));
    } else {
      copyPage(this.#p2m.locate(gfn)!, this.home);
      this.#p2m.unborrow(gfn);
    }
    this.#areas.moveSharedInfo(this.home, false);
  }

  /** The layout's width changed: the kernel writes the wall clock to its new place when told again. */
  rewrite(): void {
    if (this.#gfn !== undefined) kvmResult(() => this.#bridge.setSharedInfo(this.#gfn));
  }

  /** A fresh machine: empty, at home. The kernel has forgotten it already. */
  reset(): void {
    this.#gfn = undefined;
    const { u8, at } = this.home;
    u8.fill(0, at, at + PAGE_SIZE);
  }
}

function copyPage(from: Place, to: Place): void {
  to.u8.set(from.u8.subarray(from.at, from.at + PAGE_SIZE), to.at);
}
