/** XENMEM_add_to_physmap and its kin: our pages laid into the guest's memory, and RAM given back and asked for. */
import type { Bridge } from '../../kvm/bridge.js';
import { Errno } from '../abi/errno.js';
import type { GrantTable } from '../grant-table/table.js';
import type { P2m } from '../memory/p2m.js';
import { kvmResult } from './kvm-result.js';
import { FIRST_GRANT_PAGE } from './own-pages.js';
import type { SharedInfoPage } from './shared-info.js';

/** 2048 status words in a frame, 256 entries in another. */
const GRANT_FRAMES_PER_STATUS_FRAME = 8;

/** Frames a guest may name: 52 bits of physical address, the most any processor has. */
const MAX_GFN = 2 ** 40;

export class Physmap {
  readonly #bridge: Bridge;
  readonly #p2m: P2m;
  readonly #grants: GrantTable;
  readonly #sharedInfo: SharedInfoPage;

  constructor(bridge: Bridge, p2m: P2m, grants: GrantTable, sharedInfo: SharedInfoPage) {
    this.#bridge = bridge;
    this.#p2m = p2m;
    this.#grants = grants;
    this.#sharedInfo = sharedInfo;
  }

  /** XENMAPSPACE_shared_info. */
  addSharedInfo(gfn: number): number {
    if (!(gfn < MAX_GFN)) return -Errno.EINVAL;
    if (gfn !== this.#sharedInfo.gfn) this.#vacate(gfn);
    return this.#sharedInfo.place(gfn);
  }

  /** XENMAPSPACE_grant_table: frame `frame` of the table, which grows to have it. */
  addGrantFrame(frame: number, gfn: number): number {
    if (!(gfn < MAX_GFN)) return -Errno.EINVAL;
    if (frame >= this.#grants.maxFrames || (frame >= this.#grants.nrFrames && !this.#grants.growTo(frame + 1))) {
      return -Errno.EINVAL;
    }
    return this.#placeFrame(frame, gfn);
  }

  /** XENMAPSPACE_grant_table with the status bit: of a version 2 table, which grows to have the frame. */
  addStatusFrame(index: number, gfn: number): number {
    if (!(gfn < MAX_GFN)) return -Errno.EINVAL;
    const grantFrames = index * GRANT_FRAMES_PER_STATUS_FRAME + 1;
    if (index >= this.#grants.nrStatusFrames && !this.#grants.growTo(grantFrames)) return -Errno.EINVAL;
    return this.#placeFrame(this.#grants.statusFrame(index), gfn);
  }

  /** The table is of version 1 again: its status frames are holes wherever the guest had them. */
  dropStatusFrames(): void {
    for (let index = 0; index < this.#grants.state.maxStatusFrames; index++) {
      this.#grantFrameHome(this.#grants.statusFrame(index));
    }
  }

  #placeFrame(frame: number, gfn: number): number {
    if (this.#grants.gfnOfFrame(frame) === gfn) return 0;
    this.#grantFrameHome(frame);
    this.#vacate(gfn);
    if (this.#p2m.backed(gfn)) {
      this.#p2m.borrow(gfn);
      if (this.#grants.placeFrame(frame, { gfn })) return 0;
      this.#p2m.unborrow(gfn);
      return -Errno.EINVAL;
    }
    return this.showOwnPage(gfn, FIRST_GRANT_PAGE + frame);
  }

  /** Lays an own page over a hole. */
  showOwnPage(gfn: number, page: number): number {
    const placed = kvmResult(() => this.#bridge.placeOwnPage(gfn, page));
    if (placed < 0) return placed;
    this.#p2m.lay(gfn, page);
    this.#grants.showOwnPage(page, gfn);
    return 0;
  }

  /** XENMEM_remove_from_physmap: whatever is at the frame, RAM or ours, the guest finds a hole there afterwards. */
  remove(gfn: number): number {
    if (!(gfn < MAX_GFN) || this.#p2m.kind(gfn) === 'hole') return -Errno.ENOENT;
    this.#vacate(gfn);
    if (this.#p2m.kind(gfn) === 'ram') {
      this.#grants.countPins();
      this.#p2m.frames.release(gfn);
    }
    return 0;
  }

  /** Gives a frame back; false if there was nothing. */
  decrease(gfn: number): boolean {
    return this.remove(gfn) === 0;
  }

  /**
   * Is this a frame of RAM that was given back, and does no I/O use its old page any more? For every other frame there is
   * no memory to be had.
   */
  mayPopulate(gfn: number): boolean {
    return gfn < MAX_GFN && this.#p2m.lookupQuery(gfn) === 'hole' && this.#p2m.frames.pins(gfn) === 0;
  }

  /** Makes a frame that was given back RAM again, zeroed; false if it was not. */
  populate(gfn: number): boolean {
    return this.mayPopulate(gfn) && this.#p2m.frames.restore(gfn);
  }

  /** Removes what is ours at a frame. Xen, too, drops a page that another one replaces. */
  #vacate(gfn: number): void {
    if (this.#sharedInfo.gfn === gfn) this.#sharedInfo.takeHome();
    for (const frame of this.#grants.allFrames()) {
      if (this.#grants.gfnOfFrame(frame) === gfn) this.#grantFrameHome(frame);
    }
    const page = this.#p2m.lift(gfn);
    if (page === undefined) return;
    this.#grants.showOwnPage(page, undefined);
    kvmResult(() => this.#bridge.removeOwnPage(gfn));
  }

  #grantFrameHome(frame: number): void {
    const gfn = this.#grants.gfnOfFrame(frame);
    if (gfn < 0) return;
    if ('gfn' in this.#grants.placeOf(frame)) {
      this.#grants.placeFrame(frame, 'home');
      this.#p2m.unborrow(gfn);
      return;
    }
    this.#p2m.lift(gfn);
    this.#grants.showOwnPage(FIRST_GRANT_PAGE + frame, undefined);
    kvmResult(() => this.#bridge.removeOwnPage(gfn));
  }
}
