/** The store with everyone connected to it: guests over their rings, host tools over a socket, this process directly. */
import { silentLog, type Log } from '../observe/log.js';
import { systemClock, type Clock } from './clock.js';
import type { StoreClient } from './client.js';
import { Connection, type Shared } from './connection.js';
import { localClient } from './local-client.js';
import { RELEASE_DOMAIN } from './path.js';
import { dom0 } from './permission.js';
import type { Quotas } from './quota.js';
import { RingConnection, type RingPage } from './ring.js';
import { Store } from './store.js';
import type { Toolstack } from './toolstack.js';
import { WriteRate } from './write-rate.js';

export interface XenstoreOptions {
  readonly quotas?: Partial<Quotas>;
  readonly clock?: Clock;
  readonly log?: Log;
}

export class Xenstore {
  readonly store: Store;
  readonly client: StoreClient;
  readonly #shared: Shared;
  readonly #guests = new Map<number, RingConnection>();

  constructor({ quotas = {}, clock = systemClock, log = silentLog }: XenstoreOptions = {}) {
    this.store = new Store(quotas);
    this.client = localClient(this.store);
    const rate = new WriteRate(this.store, clock);
    this.#shared = { store: this.store, clock, rate, toolstack: this.#toolstack(), log };
    this.client.write('/local/domain/0/domid', '0');
    this.client.write('/local/domain/0/name', 'Domain-0');
  }

  /**
   * Connects a guest over its page and announces it (`@introduceDomain`). Of a guest already connected, it replaces the
   * connection: after a reset of the machine. The rings start empty.
   * @param notify signals the guest's store port; the caller calls `serve()` when the guest signals
   */
  introduce(domid: number, page: RingPage, notify: () => void): RingConnection {
    this.#guests.get(domid)?.close();
    const ring = new RingConnection(this.#shared, domid, page, notify);
    this.#guests.set(domid, ring);
    ring.reset();
    this.store.introduce(domid);
    return ring;
  }

  /** Forgets a guest: its connection, its nodes, what it was permitted. Fires `@releaseDomain`. */
  release(domid: number): void {
    this.#guests.get(domid)?.close();
    this.#guests.delete(domid);
    this.#shared.rate.forget(domid);
    this.store.release(domid);
  }

  /** Tells the watchers of `@releaseDomain` that a guest has shut down; it keeps its nodes until it is released. */
  shutDown(): void {
    this.store.announce(RELEASE_DOMAIN);
  }

  /** A privileged end of the wire protocol, for a transport of host tools. */
  hostConnection(queued: () => void): Connection {
    return new Connection(this.#shared, dom0, queued);
  }

  #toolstack(): Toolstack {
    const connected = (domid: number) => (this.#guests.has(domid) ? undefined : 'ENOENT');
    return {
      // Only this process can give a domain its page, so a tool can but start a known one afresh.
      introduce: (domid) => {
        const guest = this.#guests.get(domid);
        guest?.reset();
        return guest === undefined ? 'EINVAL' : undefined;
      },
      release: (domid) => {
        const refused = connected(domid);
        if (refused === undefined) this.release(domid);
        return refused;
      },
      resume: connected,
      setTarget: (domid, target) => {
        const guest = this.#guests.get(domid);
        if (guest === undefined || !this.#guests.has(target)) return 'ENOENT';
        guest.connection.caller = { ...guest.connection.caller, target };
        return undefined;
      },
      isIntroduced: (domid) => this.store.findDomain(domid)?.introduced === true,
    };
  }
}
