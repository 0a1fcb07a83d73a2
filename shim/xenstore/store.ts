/** The store: a tree of nodes, the domains that own them, and who watches them. No I/O, no clock. */
import { Domain, type Outstanding } from './domain.js';
import { nodeSize, type Node, type NodeContent } from './node.js';
import { INTRODUCE_DOMAIN, RELEASE_DOMAIN, baseName, childOf, parentOf } from './path.js';
import type { Permissions } from './permission.js';
import { defaultQuotas, type Quotas } from './quota.js';
import type { View } from './view.js';
import { WatchTable } from './watch.js';

const rootPermissions: Permissions = [{ domid: 0, access: 0 }];

export class Store implements View {
  readonly #nodes = new Map<string, Node>();
  readonly #domains = new Map<number, Domain>();
  #generation = 0;
  readonly watches = new WatchTable();
  /** What new domains get. */
  readonly quotas: Quotas;
  /** Transactions open anywhere: while there are any, writes disturb somebody. */
  openTransactions = 0;
  readonly doomed = undefined;

  constructor(quotas: Partial<Quotas> = {}) {
    this.quotas = { ...defaultQuotas, ...quotas };
    this.domain(0).introduced = true;
    const empty = { value: '', children: [], permissions: rootPermissions };
    this.put('/', { ...empty, children: ['tool'] });
    this.put('/tool', { ...empty, children: ['xenstored'] });
    this.put('/tool/xenstored', empty);
    this.put(INTRODUCE_DOMAIN, empty);
    this.put(RELEASE_DOMAIN, empty);
  }

  get(path: string): Node | undefined {
    return this.#nodes.get(path);
  }

  put(path: string, { value, children, permissions }: NodeContent): void {
    const node: Node = { value, children, permissions, generation: ++this.#generation };
    this.#charge(path, this.#nodes.get(path), -1);
    this.#charge(path, node, 1);
    this.#nodes.set(path, node);
  }

  remove(path: string): void {
    this.#charge(path, this.#nodes.get(path), -1);
    this.#nodes.delete(path);
  }

  changed(
    path: string,
    node: Node | undefined,
    exact: boolean,
    before: Permissions | undefined,
    cause: Outstanding | undefined,
  ): void {
    this.watches.fire(path, node, this.#nodes.get(parentOf(path)), exact, before, cause);
  }

  nodesOf(domid: number): number {
    return this.domain(domid).nodes;
  }

  hasMemoryFor(domid: number, bytes: number): boolean {
    return this.domain(domid).hasMemoryFor(bytes);
  }

  /** Makes the domain known if it is not. */
  domain(domid: number): Domain {
    let domain = this.#domains.get(domid);
    if (domain === undefined) this.#domains.set(domid, (domain = new Domain(domid, this.quotas)));
    return domain;
  }

  /** The domain, if it is known. */
  findDomain(domid: number): Domain | undefined {
    return this.#domains.get(domid);
  }

  /** Domains that share the write rate: introduced guests. */
  get guests(): number {
    let count = 0;
    for (const domain of this.#domains.values()) if (domain.introduced && domain.domid !== 0) count++;
    return count;
  }

  /** Marks the domain as one that talks to the store, and tells the watchers of `@introduceDomain`. */
  introduce(domid: number): Domain {
    const domain = this.domain(domid);
    if (!domain.introduced) {
      domain.introduced = true;
      this.announce(INTRODUCE_DOMAIN);
    }
    return domain;
  }

  /**
   * Forgets a domain: what it owns goes, and so does every permission it was given, because a later domain with the
   * same id must not inherit them.
   */
  release(domid: number): void {
    const domain = this.#domains.get(domid);
    if (domain === undefined || domid === 0) return;
    for (const path of [...this.#nodes.keys()]) {
      const node = this.#nodes.get(path);
      if (node === undefined) continue;
      if (node.permissions[0].domid === domid) this.#uproot(path);
      else this.#strip(path, node, domid);
    }
    this.#domains.delete(domid);
    if (domain.introduced) this.announce(RELEASE_DOMAIN);
  }

  /** Fires the watches of a special name. */
  announce(special: string): void {
    this.changed(special, this.#nodes.get(special), true, undefined, undefined);
  }

  /** Every path and node, for consistency checks and dumps. */
  entries(): IterableIterator<[string, Node]> {
    return this.#nodes.entries();
  }

  #uproot(path: string): void {
    const tree = [path];
    // Grows while it is walked: parents first.
    for (const at of tree) {
      for (const name of this.#nodes.get(at)?.children ?? []) tree.push(childOf(at, name));
    }
    for (const at of tree.reverse()) {
      this.changed(at, this.#nodes.get(at), at !== path, undefined, undefined);
    }
    for (const at of tree) this.remove(at);
    const parent = this.#nodes.get(parentOf(path));
    if (parent === undefined) return;
    const name = baseName(path);
    this.put(parentOf(path), { ...parent, children: parent.children.filter((child) => child !== name) });
  }

  #strip(path: string, node: Node, domid: number): void {
    const [owner, ...others] = node.permissions;
    const kept = others.filter((permission) => permission.domid !== domid);
    if (kept.length !== others.length) this.put(path, { ...node, permissions: [owner, ...kept] });
  }

  #charge(path: string, node: Node | undefined, sign: 1 | -1): void {
    if (node === undefined) return;
    const owner = this.domain(node.permissions[0].domid);
    owner.nodes += sign;
    owner.addMemory(sign * (nodeSize(node) + path.length));
  }
}
