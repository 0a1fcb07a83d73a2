/**
 * The operations on nodes, with their permissions and quotas. A caller's mistake comes back as the protocol's error
 * name. Every operation is checked first and carried out after, so a refused one has changed nothing.
 */
import type { WireError } from '../abi/io/xs_wire.js';
import type { Domain, Outstanding } from './domain.js';
import { nodeSize, type Node, type NodeContent } from './node.js';
import { baseName, childOf, parentOf } from './path.js';
import { Access, accessFor, type Caller, type Permissions } from './permission.js';
import { exceeds } from './quota.js';
import type { View } from './view.js';

/** One operation's surroundings. Paths handed to operations are canonical. */
export interface Context {
  readonly view: View;
  readonly caller: Caller;
  /** The caller's own domain: whose quotas count. */
  readonly domain: Domain;
  /** The request behind it, if a guest's. */
  readonly cause: Outstanding | undefined;
}

/**
 * The node, if it exists and grants all of `need`. A caller that may not even look at the nearest existing ancestor
 * learns EACCES whatever the truth is.
 */
export function lookup({ view, caller }: Context, path: string, need: number): Node | WireError {
  const node = view.get(path);
  if (node !== undefined && (accessFor(caller, node.permissions) & need) === need) return node;
  let above = path;
  let ancestor: Node | undefined;
  do {
    above = parentOf(above);
    ancestor = view.get(above);
  } while (ancestor === undefined && above !== '/');
  if (view.doomed !== undefined) return view.doomed;
  const granted = ancestor === undefined ? 0 : accessFor(caller, ancestor.permissions);
  return node === undefined && (granted & need) !== 0 ? 'ENOENT' : 'EACCES';
}

export function write(context: Context, path: string, value: string): WireError | undefined {
  const node = lookup(context, path, Access.WRITE);
  if (node === 'ENOENT') return create(context, path, value);
  if (typeof node === 'string') return node;
  const refused = replace(context, path, node, { ...node, value });
  if (refused === undefined) announce(context, path, undefined);
  return refused;
}

/** A node that is there already is left alone, and nobody is told. */
export function mkdir(context: Context, path: string): WireError | undefined {
  const node = lookup(context, path, Access.WRITE);
  if (node === 'ENOENT') return create(context, path, '');
  return typeof node === 'string' ? node : undefined;
}

/** Removes the node and all below it. A node that is not there is fine as long as its parent is. */
export function remove(context: Context, path: string): WireError | undefined {
  const { view } = context;
  const node = lookup(context, path, Access.WRITE);
  if (node === 'ENOENT') return view.get(parentOf(path)) === undefined ? (view.doomed ?? 'ENOENT') : undefined;
  if (typeof node === 'string') return node;
  if (path === '/') return 'EINVAL';
  const tree: [string, Node][] = [[path, node]];
  // Grows while it is walked: parents first.
  for (const [at, { children }] of tree) {
    for (const name of children) {
      const child = childOf(at, name);
      const found = view.get(child);
      if (found !== undefined) tree.push([child, found]);
    }
  }
  const parent = view.get(parentOf(path));
  if (view.doomed !== undefined) return view.doomed;
  tree.reverse();
  for (const [at, found] of tree) view.changed(at, found, at !== path, undefined, context.cause);
  for (const [at] of tree) view.remove(at);
  if (parent !== undefined) {
    const name = baseName(path);
    view.put(parentOf(path), { ...parent, children: parent.children.filter((child) => child !== name) });
  }
  return view.doomed;
}

/** Only the owner may, and only dom0 may give a node away. */
export function setPermissions(context: Context, path: string, permissions: Permissions): WireError | undefined {
  const node = lookup(context, path, Access.WRITE | Access.OWNER);
  if (typeof node === 'string') return node;
  if (!context.caller.privileged && permissions[0].domid !== node.permissions[0].domid) return 'EPERM';
  const refused = replace(context, path, node, { ...node, permissions });
  if (refused === undefined) announce(context, path, node.permissions);
  return refused;
}

/** Makes a node and the missing ones above it; they inherit permissions, and a guest owns what it makes. */
function create(context: Context, path: string, value: string): WireError | undefined {
  const { view, caller, domain } = context;
  const missing: string[] = [];
  let above = path;
  let ancestor: Node | undefined;
  do {
    missing.push(above);
    above = parentOf(above);
    ancestor = view.get(above);
  } while (ancestor === undefined && above !== '/');
  if (view.doomed !== undefined) return view.doomed;
  if (ancestor === undefined) return 'ENOENT';

  const [owner, ...others] = ancestor.permissions;
  const permissions: Permissions = [caller.privileged ? owner : { ...owner, domid: caller.domid }, ...others];
  const made = missing.map((at, i): [string, NodeContent] => [
    at,
    { value: i === 0 ? value : '', children: i === 0 ? [] : [baseName(missing[i - 1]!)], permissions },
  ]);
  const parent = { ...ancestor, children: [...ancestor.children, baseName(missing.at(-1)!)] };

  if (!caller.privileged) {
    if (exceeds(view.nodesOf(caller.domid) + made.length, domain.quotas.nodes)) return 'ENOSPC';
    const limit = domain.quotas['node-size'];
    if (exceeds(nodeSize(parent), limit) || made.some(([, node]) => exceeds(nodeSize(node), limit))) return 'ENOSPC';
    const memory = made.reduce((sum, [at, node]) => sum + at.length + nodeSize(node), 0);
    if (!view.hasMemoryFor(caller.domid, memory)) return 'ENOMEM';
    if (!view.hasMemoryFor(parent.permissions[0].domid, nodeSize(parent) - nodeSize(ancestor))) return 'ENOMEM';
  }
  view.put(above, parent);
  for (const [at, node] of made.reverse()) view.put(at, node);
  announce(context, path, undefined);
  return view.doomed;
}

function replace(context: Context, path: string, before: Node, after: NodeContent): WireError | undefined {
  const { view, caller, domain } = context;
  if (!caller.privileged) {
    if (exceeds(nodeSize(after), domain.quotas['node-size'])) return 'ENOSPC';
    if (!view.hasMemoryFor(after.permissions[0].domid, nodeSize(after) - nodeSize(before))) return 'ENOMEM';
  }
  view.put(path, after);
  return view.doomed;
}

function announce({ view, cause }: Context, path: string, before: Permissions | undefined): void {
  const node = view.get(path);
  if (node !== undefined) view.changed(path, node, false, before, cause);
}
