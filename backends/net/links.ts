/** What may stand after `--vif`: KIND=VALUE names a link. */
import { OperatorError } from '../../shim/observe/errors.js';
import type { Link } from './link.js';
import { openTap } from './tap.js';

const kinds: ReadonlyMap<string, (value: string) => Link> = new Map([['tap', openTap]]);

/**
 * Opens a link by its description, e.g. `tap=vif1.0`.
 * @throws OperatorError VIF_LINK, and whatever the kind of link throws
 */
export function openLink(description: string): Link {
  const at = description.indexOf('=');
  const open = at < 0 ? undefined : kinds.get(description.slice(0, at));
  if (open !== undefined) return open(description.slice(at + 1));
  throw new OperatorError('VIF_LINK', `'${description}' is no link for a vif`, 'write tap=NAME');
}
