/** What may stand after `--vif`: a kind of link, and what it is to be opened with. */
import { OperatorError } from '../../shim/observe/errors.js';
import { silentLog, type Log } from '../../shim/observe/log.js';
import { openBridgeLink } from './bridge-link.js';
import type { Link } from './link.js';
import { openSocketLink, openSocketServer } from './socket-link.js';
import { openTap } from './tap.js';
import { openUserLink } from './user-link.js';

export type LinkSpec =
  | { readonly kind: 'tap'; readonly name: string }
  | { readonly kind: 'bridge'; readonly name: string; readonly vifname?: string }
  | { readonly kind: 'user' }
  | { readonly kind: 'socket'; readonly path: string; readonly server?: boolean };

export interface LinkSurroundings {
  /** For the names of interfaces made. */
  readonly domid: number;
  readonly index: number;
  /** Queues a frontend may use at most, where the link can have several. */
  readonly queues: number;
  readonly log: Log;
}

/** @throws OperatorError as the kind of link does */
export function openLinkOf(spec: LinkSpec, { domid, index, queues, log }: LinkSurroundings): Link {
  switch (spec.kind) {
    case 'tap':
      return openTap(spec.name, queues);
    case 'bridge':
      return openBridgeLink(spec.name, { vifname: spec.vifname, domid, index }, queues);
    case 'user':
      return openUserLink(log);
    case 'socket':
      return spec.server === true ? openSocketServer(spec.path, log) : openSocketLink(spec.path, log);
  }
}

/** The link that "tap=NAME", "bridge=NAME", "user" or "socket=PATH" names. @throws OperatorError VIF_LINK */
export function parseLink(text: string): LinkSpec {
  const [, kind, value] = /^([a-z]+)(?:=(.+))?$/s.exec(text) ?? [];
  if (kind === 'tap' && value !== undefined) return { kind, name: value };
  if (kind === 'bridge' && value !== undefined) return { kind, name: value };
  if (kind === 'socket' && value !== undefined) return { kind, path: value };
  if (kind === 'user' && value === undefined) return { kind };
  throw new OperatorError('VIF_LINK', `'${text}' is no link for a vif`, 'write tap=NAME, bridge=NAME, user or socket=PATH');
}

/**
 * Opens a link by its description, e.g. `tap=vif1.0`, with one queue.
 * @throws OperatorError VIF_LINK, and whatever the kind of link throws
 */
export function openLink(description: string, surroundings: Partial<LinkSurroundings> = {}): Link {
  return openLinkOf(parseLink(description), { domid: 1, index: 0, queues: 1, log: silentLog, ...surroundings });
}
