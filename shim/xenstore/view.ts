/** What an operation works on: the store itself, or a transaction's private picture of it. */
import type { WireError } from '../abi/io/xs_wire.js';
import type { Node, NodeContent } from './node.js';
import type { Permissions } from './permission.js';
import type { Outstanding } from './domain.js';

export interface View {
  get(path: string): Node | undefined;
  put(path: string, node: NodeContent): void;
  remove(path: string): void;
  /**
   * Announces a change to the watchers. Called while the node's family is still there to be asked for permissions.
   * @param node the node as it is now, or as it was when it is being removed
   * @param exact only watches of this very path, not those above it (a descendant of what is removed)
   * @param before permissions the node had, if this changes them: who could read it then is told too
   */
  changed(path: string, node: Node, exact: boolean, before: Permissions | undefined, cause: Outstanding | undefined): void;
  /** Nodes the domain owns as seen from here. */
  nodesOf(domid: number): number;
  /** Whether the domain may use so many bytes more. */
  hasMemoryFor(domid: number, bytes: number): boolean;
  /** Set once the view can go nowhere: a transaction that touched too many nodes. */
  readonly doomed: WireError | undefined;
}
