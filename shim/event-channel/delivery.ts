/**
 * Raising events. With the 2-level ABI: through the kernel where it knows the guest's areas, in memory until then. With
 * the FIFO ABI, of which the kernel knows nothing: into the guest's event words here, and the kernel only tells the vCPU.
 */
import type { EventAreas } from './areas.js';
import type { FifoEvents } from './fifo.js';
import type { Port } from './port-table.js';
import { deliver } from './two-level.js';

/** The part of the bridge delivery needs. */
export interface EventRaiser {
  raise(port: number, vcpu: number): void;
}

export class Delivery {
  readonly #bridge: EventRaiser;
  readonly #areas: EventAreas;
  readonly #listeners = new Set<(port: number) => void>();
  #fifo: FifoEvents | undefined;

  constructor(bridge: EventRaiser, areas: EventAreas) {
    this.#bridge = bridge;
    this.#areas = areas;
  }

  get areas(): EventAreas {
    return this.#areas;
  }

  /** The guest's FIFO queues; undefined while it uses the 2-level ABI. */
  get fifo(): FifoEvents | undefined {
    return this.#fifo;
  }

  set fifo(fifo: FifoEvents | undefined) {
    this.#fifo = fifo;
  }

  raise(port: Port): void {
    const fifo = this.#fifo;
    if (fifo !== undefined) {
      if (fifo.raise(port.number, port.vcpu)) this.#tell(port.vcpu);
    } else if (port.number >= this.#areas.bits.ports) {
      return;
    } else if (this.#areas.kernelDelivers(port.vcpu)) {
      this.#bridge.raise(port.number, port.vcpu);
    } else {
      deliver(this.#areas.bits, this.#areas.upcall(port.vcpu), port.number);
    }
    for (const listener of this.#listeners) listener(port.number);
  }

  /**
   * Raises again what is pending and not masked: after an unmask, or after the areas moved, when a selector bit may
   * have been set in the old place. The pending bit is cleared first, or the kernel would take the event for old.
   */
  redeliver(port: Port): void {
    const bits = this.#areas.bits;
    if (this.#fifo !== undefined || port.number >= bits.ports || bits.masked(port.number)) return;
    if (bits.clearPending(port.number)) this.raise(port);
  }

  /** After the areas of a vCPU moved: it is told again of what is in its queues. */
  tellAgain(vcpu: number): void {
    if (this.#fifo?.ready(vcpu) === true) this.#tell(vcpu);
  }

  /** EVTCHNOP_unmask. */
  unmask(port: Port): void {
    if (this.#fifo !== undefined) {
      if (this.#fifo.unmask(port.number)) this.raise(port);
      return;
    }
    const { bits } = this.#areas;
    if (port.number < bits.ports && bits.clearMask(port.number)) this.redeliver(port);
  }

  pending(port: number): boolean {
    if (this.#fifo !== undefined) return this.#fifo.pending(port);
    return port < this.#areas.bits.ports && this.#areas.bits.pending(port);
  }

  /** A port begins or ends its life: a stale bit of the former one would be taken for an event. */
  forget(port: number): void {
    this.#fifo?.forget(port);
    const { bits } = this.#areas;
    if (port < bits.ports) bits.clearPending(port);
  }

  /** Calls back after every event this process raises (not those the kernel raises by itself). */
  onRaise(listener: (port: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Sets the vCPU's upcall flag and interrupts it. A guest with FIFO event channels looks at no 2-level bit, so a port
   * of that ABI serves as a bell: whatever way the vCPU hears of events, the kernel rings it. Its bits are cleared
   * first; a ring still under way then either comes after what the guest is to see, or leaves the bell free.
   */
  #tell(vcpu: number): void {
    const upcall = this.#areas.upcall(vcpu);
    if (!this.#areas.kernelDelivers(vcpu)) {
      upcall?.raise();
      return;
    }
    const { bits } = this.#areas;
    const bell = 1 + (vcpu % (bits.ports - 1));
    upcall!.unselect(bell);
    bits.clearMask(bell);
    bits.clearPending(bell);
    this.#bridge.raise(bell, vcpu);
  }
}
