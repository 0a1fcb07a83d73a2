/** READ, WRITE, MKDIR, RM, DIRECTORY, DIRECTORY_PART, GET_PERMS, SET_PERMS. */
import { XENSTORE_PAYLOAD_MAX, type WireError } from '../../abi/io/xs_wire.js';
import type { Answer } from '../connection.js';
import { decimal, onlyString, pathAndValue, strings } from '../message.js';
import type { Node } from '../node.js';
import * as operations from '../operations.js';
import { Access, formatPermission, parsePermissions, type Permissions } from '../permission.js';
import { exceeds } from '../quota.js';
import type { Request } from '../requests.js';
import { acknowledge } from './answer.js';

/** Finds the node a payload names, if the caller may read it. */
function readable(request: Request, path: string | undefined, specialAllowed = false): Node | WireError {
  const full = path === undefined ? undefined : request.connection.resolve(path, specialAllowed);
  return full === undefined ? 'EINVAL' : operations.lookup(request.context, full, Access.READ);
}

export function read(request: Request): Answer | WireError {
  const node = readable(request, onlyString(request.payload));
  return typeof node === 'string' ? node : { payload: node.value };
}

/** Each name with its NUL, the last one too. */
function childList(node: Node): string {
  return node.children.map((name) => `${name}\0`).join('');
}

export function directory(request: Request): Answer | WireError {
  const node = readable(request, onlyString(request.payload));
  return typeof node === 'string' ? node : { payload: childList(node) };
}

/**
 * Part of a list too long for one reply: the node's generation, then whole names from a byte offset on, then an empty
 * name once the list is complete. A client starts over when the generation changes between parts.
 */
export function directoryPart(request: Request): Answer | WireError {
  const args = strings(request.payload);
  if (args.length !== 2) return 'EINVAL';
  const node = readable(request, args[0]);
  if (typeof node === 'string') return node;
  const list = childList(node);
  const from = decimal(args[1]!) ?? 0;
  const generation = `${Math.abs(node.generation)}\0`;
  if (from >= list.length) return { payload: `${generation}\0` };
  const room = XENSTORE_PAYLOAD_MAX - generation.length - 1;
  if (list.length - from <= room) return { payload: `${generation}${list.slice(from)}\0` };
  const end = list.lastIndexOf('\0', from + room - 1) + 1;
  return { payload: generation + list.slice(from, Math.max(from, end)) };
}

export function write(request: Request): Answer | WireError {
  const args = pathAndValue(request.payload);
  const path = args === undefined ? undefined : request.connection.resolve(args.path);
  if (args === undefined || path === undefined) return 'EINVAL';
  return acknowledge(operations.write(request.context, path, args.value));
}

export function makeDirectory(request: Request): Answer | WireError {
  return onPath(request, operations.mkdir);
}

export function remove(request: Request): Answer | WireError {
  return onPath(request, operations.remove);
}

function onPath(request: Request, operation: typeof operations.mkdir): Answer | WireError {
  const path = onlyString(request.payload);
  const full = path === undefined ? undefined : request.connection.resolve(path);
  return full === undefined ? 'EINVAL' : acknowledge(operation(request.context, full));
}

export function getPerms(request: Request): Answer | WireError {
  const node = readable(request, onlyString(request.payload), true);
  if (typeof node === 'string') return node;
  return { payload: node.permissions.map((permission) => `${formatPermission(permission)}\0`).join('') };
}

export function setPerms(request: Request): Answer | WireError {
  const { connection, context } = request;
  const [path, ...texts] = strings(request.payload);
  if (path === undefined || texts.length === 0) return 'EINVAL';
  if (!context.caller.privileged && exceeds(texts.length, context.domain.quotas['node-permissions'])) return 'ENOSPC';
  const asked = parsePermissions(texts);
  const full = connection.resolve(path, true);
  if (asked === undefined || full === undefined) return 'EINVAL';
  // A domain that does not exist gets nothing: it might be created later, by someone else.
  const [owner, ...others] = asked;
  const exists = (domid: number) => connection.shared.store.findDomain(domid) !== undefined;
  if (!exists(owner.domid)) return 'ENOENT';
  const permissions: Permissions = [owner, ...others.filter(({ domid }) => exists(domid))];
  return acknowledge(operations.setPermissions(context, full, permissions));
}
