/** What the store knows of a domain: whether it talks to the store, and what it uses. */
import { exceeds, type Quotas } from './quota.js';

export class Domain {
  /** Introduced: it has a ring (or is dom0). */
  introduced = false;
  nodes = 0;
  memory = 0;
  watches = 0;
  transactions = 0;
  outstanding = 0;
  /** Told when `outstanding` or `memory` falls, so that stalled input can go on. */
  relieved: (() => void) | undefined;
  readonly quotas: Quotas;

  constructor(
    readonly domid: number,
    quotas: Quotas,
  ) {
    this.quotas = { ...quotas };
  }

  addMemory(bytes: number): void {
    this.memory += bytes;
    if (bytes < 0) this.relieved?.();
  }

  hasMemoryFor(bytes: number): boolean {
    return bytes <= 0 || !exceeds(this.memory + bytes, this.quotas.memory);
  }

  /** Whether the domain must be left waiting before its next request is read. */
  get stalled(): boolean {
    return exceeds(this.outstanding + 1, this.quotas.outstanding) || exceeds(this.memory + 1, this.quotas.memory);
  }
}

/** A request not yet done with: its reply and the events it caused hold it, the last one released frees the slot. */
export class Outstanding {
  #holders = 1;

  constructor(readonly domain: Domain) {
    domain.outstanding++;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    if (--this.#holders > 0) return;
    this.domain.outstanding--;
    this.domain.relieved?.();
  }
}
