/** Raising events: through the kernel where it knows the guest's areas, in memory until then. */
import type { EventAreas } from './areas.js';
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

  constructor(bridge: EventRaiser, areas: EventAreas) {
    this.#bridge = bridge;
    this.#areas = areas;
  }

  get areas(): EventAreas {
    return this.#areas;
  }

  raise(port: Port): void {
    if (port.number >= this.#areas.bits.ports) return;
    if (this.#areas.kernelDelivers(port.vcpu)) this.#bridge.raise(port.number, port.vcpu);
    else deliver(this.#areas.bits, this.#areas.upcall(port.vcpu), port.number);
    for (const listener of this.#listeners) listener(port.number);
  }

  /**
   * Raises again what is pending and not masked: after an unmask, or after the areas moved, when a selector bit may
   * have been set in the old place. The pending bit is cleared first, or the kernel would take the event for old.
   */
  redeliver(port: Port): void {
    const bits = this.#areas.bits;
    if (port.number >= bits.ports || bits.masked(port.number)) return;
    if (bits.clearPending(port.number)) this.raise(port);
  }

  pending(port: number): boolean {
    return port < this.#areas.bits.ports && this.#areas.bits.pending(port);
  }

  /** Calls back after every event this process raises (not those the kernel raises by itself). */
  onRaise(listener: (port: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
