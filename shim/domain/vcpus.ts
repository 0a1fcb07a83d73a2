/** What the shim keeps per vCPU: its areas in guest memory, its upcall vector, whether it has stopped itself. */
import type { Bridge } from '../../kvm/bridge.js';
import { Errno } from '../abi/errno.js';
import { VcpuRunstateInfo64 } from '../abi/vcpu.js';
import { VcpuInfo32, VcpuInfo64, VcpuTimeInfo } from '../abi/xen.js';
import type { EventAreas } from '../event-channel/areas.js';
import type { EventChannels } from '../event-channel/event-channels.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import type { P2m } from '../memory/p2m.js';
import { kvmResult } from './kvm-result.js';

interface VcpuState {
  upcallVector: number;
  /** It asked to be stopped (VCPUOP_down) and waits in that hypercall. */
  down: boolean;
}

export class Vcpus {
  readonly #bridge: Bridge;
  readonly #p2m: P2m;
  readonly #areas: EventAreas;
  readonly #channels: () => EventChannels;
  /** vCPUs seen to run. */
  readonly #states = new Map<number, VcpuState>();
  #known = new Set<number>();
  /** Frames the kernel writes to: they stay. `vcpu_info 0` → frames. */
  readonly #held = new Map<string, readonly number[]>();

  constructor(bridge: Bridge, p2m: P2m, areas: EventAreas, channels: () => EventChannels) {
    this.#bridge = bridge;
    this.#p2m = p2m;
    this.#areas = areas;
    this.#channels = channels;
  }

  exists(vcpu: number): boolean {
    if (this.#known.has(vcpu)) return true;
    this.#known = new Set(this.#bridge.vcpus());
    return this.#known.has(vcpu);
  }

  /** A vCPU issued a hypercall. True the first time. */
  seen(vcpu: number): boolean {
    if (this.#states.has(vcpu)) return false;
    this.#states.set(vcpu, { upcallVector: 0, down: false });
    return true;
  }

  /** It runs guest code, or did when last heard of. vCPU 0 always runs from the start. */
  isUp(vcpu: number): boolean {
    return this.#states.get(vcpu)?.down === false;
  }

  isDown(vcpu: number): boolean {
    return this.#states.get(vcpu)?.down === true;
  }

  setDown(vcpu: number, down: boolean): void {
    this.#state(vcpu).down = down;
  }

  /** Those that wait in VCPUOP_down. */
  allDown(): number[] {
    return [...this.#states.keys()].filter((vcpu) => this.isDown(vcpu));
  }

  /** Some vCPU is still running. */
  anyUp(): boolean {
    for (const state of this.#states.values()) if (!state.down) return true;
    return false;
  }

  hasVector(vcpu: number): boolean {
    return (this.#states.get(vcpu)?.upcallVector ?? 0) !== 0;
  }

  /**
   * HVMOP_set_evtchn_upcall_vector. What is pending already is told by the new vector, as Xen does it; KVM interrupts a
   * vCPU only for a word of events that had none, so that a vCPU without a vector would not hear of that word any more.
   */
  setVector(vcpu: number, vector: number): number {
    const result = kvmResult(() => this.#bridge.setUpcallVector(vcpu, vector));
    if (result !== 0) return result;
    this.#state(vcpu).upcallVector = vector;
    this.#channels().redeliver(vcpu, false);
    return 0;
  }

  /** VCPUOP_register_vcpu_info: moves a vcpu_info out of shared_info, for good. */
  registerInfo(vcpu: number, gfn: number, offset: number): number {
    if (this.#areas.registered(vcpu)) return -Errno.EBUSY;
    const size = VcpuInfo64.SIZE;
    // Aligned as the compiler would: on the width of pending_sel.
    const align = this.#areas.long ? 8 : VcpuInfo32.evtchn_pending_sel;
    if (offset > PAGE_SIZE - size || offset % align !== 0) return -Errno.EINVAL;
    if (!this.#hold(`vcpu_info ${vcpu}`, [gfn])) return -Errno.EINVAL;
    const page = this.#p2m.locate(gfn)!;
    const to = page.at + offset;
    const old = this.#areas.vcpuInfo(vcpu);
    const lost = !this.#areas.kernelDelivers(vcpu);
    if (old === undefined) page.u8.fill(0, to, to + size);
    else page.u8.set(old.u8.subarray(old.at, old.at + size), to);
    const result = kvmResult(() => this.#bridge.setVcpuInfo(vcpu, gfn * PAGE_SIZE + offset));
    if (result < 0) {
      this.#letGo(`vcpu_info ${vcpu}`);
      return result;
    }
    this.#areas.register(vcpu, { ...page, at: to });
    this.#channels().redeliver(vcpu, lost);
    return 0;
  }

  /** Where the kernel keeps a vCPU's time or runstate up to date; undefined = nowhere. */
  setTimeArea(vcpu: number, gpa: number | undefined): number {
    if (!this.#hold(`time ${vcpu}`, framesOf(gpa, VcpuTimeInfo.SIZE))) return -Errno.EINVAL;
    return kvmResult(() => this.#bridge.setVcpuTimeInfo(vcpu, gpa));
  }

  setRunstateArea(vcpu: number, gpa: number | undefined): number {
    if (!this.#hold(`runstate ${vcpu}`, framesOf(gpa, VcpuRunstateInfo64.SIZE))) return -Errno.EINVAL;
    return kvmResult(() => this.#bridge.setRunstateArea(vcpu, gpa), -Errno.ENOSYS);
  }

  reset(): void {
    for (const area of [...this.#held.keys()]) this.#letGo(area);
    this.#states.clear();
    this.#known.clear();
  }

  /** Keeps the frames of an area, and those of its last place no more; false if one is not memory. */
  #hold(area: string, gfns: readonly number[]): boolean {
    const held: number[] = [];
    for (const gfn of gfns) {
      const kind = this.#p2m.kind(gfn);
      if (kind === 'own') continue;
      if (kind === 'ram' && this.#p2m.frames.hold(gfn)) {
        held.push(gfn);
        continue;
      }
      for (const each of held) this.#p2m.frames.letGo(each);
      return false;
    }
    this.#letGo(area);
    this.#held.set(area, held);
    return true;
  }

  #letGo(area: string): void {
    for (const gfn of this.#held.get(area) ?? []) this.#p2m.frames.letGo(gfn);
    this.#held.delete(area);
  }

  #state(vcpu: number): VcpuState {
    this.seen(vcpu);
    return this.#states.get(vcpu)!;
  }
}

/** The frames of an area that crosses a page at most once. */
function framesOf(gpa: number | undefined, size: number): number[] {
  if (gpa === undefined) return [];
  const first = Math.floor(gpa / PAGE_SIZE);
  const last = Math.floor((gpa + size - 1) / PAGE_SIZE);
  return first === last ? [first] : [first, last];
}
