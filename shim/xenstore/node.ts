/** A node of the store. Immutable: a change makes a new one, so a transaction can hold on to what it saw. */
import type { Permissions } from './permission.js';

export interface NodeContent {
  /** Binary-safe: one char per byte (latin1). */
  readonly value: string;
  /** Names, in creation order. */
  readonly children: readonly string[];
  readonly permissions: Permissions;
}

export interface Node extends NodeContent {
  /** Unique to this state of the node: two nodes with the same generation are the same state. */
  readonly generation: number;
}

const HEADER_BYTES = 24;
const PERMISSION_BYTES = 8;

/** Bytes a node is charged for, without its path (xenstored's node header, permissions, value, names with NULs). */
export function nodeSize(node: NodeContent): number {
  let size = HEADER_BYTES + node.permissions.length * PERMISSION_BYTES + node.value.length;
  for (const name of node.children) size += name.length + 1;
  return size;
}
