/**
 * A transaction: a private picture of the store that remembers the state of every node it touched. It commits only if
 * none of those has changed outside meanwhile; nodes it never touched do not matter (as xenstored decides it).
 */
import type { WireError } from '../abi/io/xs_wire.js';
import type { Outstanding } from './domain.js';
import { nodeSize, type Node, type NodeContent } from './node.js';
import { exceeds } from './quota.js';
import type { Caller, Permissions } from './permission.js';
import type { Store } from './store.js';
import type { View } from './view.js';

interface Touched {
  /** The store's node when first touched. */
  readonly original: Node | undefined;
  /** As the transaction sees it. */
  node: Node | undefined;
  modified: boolean;
}

/** Bytes charged per node touched, beside its path and what was written to it. */
const TOUCH_BYTES = 64;

export class Transaction implements View {
  readonly #store: Store;
  readonly #caller: Caller;
  readonly #touched = new Map<string, Touched>();
  /** Changed paths → only watches of exactly that path. */
  readonly #fires = new Map<string, boolean>();
  readonly #owned = new Map<number, number>();
  #memory = 0;
  #generation = 0;
  #doomed: WireError | undefined;
  #open = true;

  constructor(store: Store, caller: Caller) {
    this.#store = store;
    this.#caller = caller;
    store.openTransactions++;
    store.domain(caller.domid).transactions++;
  }

  get doomed(): WireError | undefined {
    return this.#doomed;
  }

  get(path: string): Node | undefined {
    return this.#touch(path)?.node;
  }

  put(path: string, { value, children, permissions }: NodeContent): void {
    const touched = this.#touch(path);
    if (touched === undefined) return;
    // Negative: a state that exists only in here, never equal to one of the store's.
    this.#set(touched, { value, children, permissions, generation: --this.#generation });
  }

  remove(path: string): void {
    const touched = this.#touch(path);
    if (touched !== undefined) this.#set(touched, undefined);
  }

  changed(path: string, _node: Node, exact: boolean): void {
    this.#fires.set(path, exact && this.#fires.get(path) !== false);
  }

  nodesOf(domid: number): number {
    return this.#store.nodesOf(domid) + (this.#owned.get(domid) ?? 0);
  }

  hasMemoryFor(_domid: number, bytes: number): boolean {
    return this.#store.hasMemoryFor(this.#caller.domid, bytes);
  }

  /**
   * Makes the changes visible and fires the watches, or does nothing at all.
   * @returns EAGAIN if a node touched has changed outside, ENOSPC if a quota stands against it
   */
  commit(cause: Outstanding | undefined): WireError | undefined {
    const refused = this.#refusal();
    const touched = [...this.#touched];
    this.abort();
    if (refused !== undefined) return refused;
    for (const [path, { original, node, modified }] of touched) {
      if (!modified) continue;
      if (node !== undefined) this.#store.put(path, node);
      else if (original !== undefined) this.#store.remove(path);
    }
    for (const [path, exact] of this.#fires) {
      const before: Permissions | undefined = this.#touched.get(path)?.original?.permissions;
      this.#store.changed(path, this.#store.get(path), exact, before, cause);
    }
    return undefined;
  }

  /** Gives the transaction up. */
  abort(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#store.openTransactions--;
    const domain = this.#store.findDomain(this.#caller.domid);
    if (domain === undefined) return;
    domain.transactions--;
    domain.addMemory(-this.#memory);
  }

  #refusal(): WireError | undefined {
    if (this.#doomed !== undefined) return this.#doomed;
    for (const [path, { original }] of this.#touched) {
      if (this.#store.get(path)?.generation !== original?.generation) return 'EAGAIN';
    }
    const { domid, privileged } = this.#caller;
    const created = this.#owned.get(domid) ?? 0;
    if (privileged || created <= 0) return undefined;
    const { nodes, quotas } = this.#store.domain(domid);
    return exceeds(nodes + created, quotas.nodes) ? 'ENOSPC' : undefined;
  }

  #touch(path: string): Touched | undefined {
    const known = this.#touched.get(path);
    if (known !== undefined) return known;
    const domain = this.#store.domain(this.#caller.domid);
    if (!this.#caller.privileged && exceeds(this.#touched.size + 1, domain.quotas['transaction-nodes'])) {
      this.#doomed = 'ENOSPC';
      return undefined;
    }
    const original = this.#store.get(path);
    const touched = { original, node: original, modified: false };
    this.#touched.set(path, touched);
    this.#charge(path.length + TOUCH_BYTES);
    return touched;
  }

  #set(touched: Touched, node: Node | undefined): void {
    this.#count(touched.node, -1);
    this.#count(node, 1);
    const old = touched.modified && touched.node !== undefined ? nodeSize(touched.node) : 0;
    this.#charge((node === undefined ? 0 : nodeSize(node)) - old);
    touched.node = node;
    touched.modified = true;
  }

  #count(node: Node | undefined, sign: 1 | -1): void {
    const owner = node?.permissions[0].domid;
    if (owner !== undefined) this.#owned.set(owner, (this.#owned.get(owner) ?? 0) + sign);
  }

  #charge(bytes: number): void {
    this.#memory += bytes;
    this.#store.domain(this.#caller.domid).addMemory(bytes);
  }
}
