/**
 * What one unprivileged domain may use (xenstored's hard quotas, same names and defaults). 0 switches a limit off.
 * Privileged connections are bound by the protocol's own limits only.
 */
export interface Quotas {
  /** Nodes owned. */
  nodes: number;
  watches: number;
  /** Requests whose reply, or whose events for anybody, have not been read yet. */
  outstanding: number;
  /** Bytes of nodes, watches, transactions and unread messages together. */
  memory: number;
  /** Transactions open at a time. */
  transactions: number;
  /** Nodes one transaction may touch. */
  'transaction-nodes': number;
  /** Permission entries of a node. */
  'node-permissions': number;
  /** Length of a path behind `/local/domain/<id>/`. */
  'path-max': number;
  /** Bytes of one node: header, permissions, value and names of children. */
  'node-size': number;
}

export type QuotaName = keyof Quotas;

export const defaultQuotas: Readonly<Quotas> = Object.freeze({
  nodes: 1000,
  watches: 128,
  outstanding: 20,
  memory: 2.5 * 1024 * 1024,
  transactions: 10,
  'transaction-nodes': 1024,
  'node-permissions': 5,
  'path-max': 2048,
  'node-size': 2048,
});

/** Memory use (bytes) at which a domain is worth a warning: xenstored's soft quota. */
export const SOFT_MEMORY = 2 * 1024 * 1024;

export function isQuotaName(name: string): name is QuotaName {
  return Object.hasOwn(defaultQuotas, name);
}

/** Whether using `amount` would exceed the limit. */
export function exceeds(amount: number, limit: number): boolean {
  return limit !== 0 && amount > limit;
}
