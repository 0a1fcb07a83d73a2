/** WATCH, UNWATCH, RESET_WATCHES. */
import type { WireError } from '../../abi/io/xs_wire.js';
import { watchSize, type Answer } from '../connection.js';
import { strings } from '../message.js';
import { isSpecial } from '../path.js';
import { exceeds } from '../quota.js';
import type { Request } from '../requests.js';
import { acknowledge } from './answer.js';

/**
 * The reply comes first, then one event at once: a client needs no separate first look. It is sent whether or not the
 * node exists or is readable. Over the quota: ENOSPC, as for every other quota (xenstored says E2BIG here).
 */
export function watch({ connection, payload }: Request): Answer | WireError {
  const args = strings(payload);
  if (args.length !== 2) return 'EINVAL';
  const [asked, token] = args as [string, string];
  const path = connection.resolve(asked, true);
  if (path === undefined) return 'EINVAL';
  const key = `${path}\0${token}`;
  if (connection.watches.has(key)) return 'EEXIST';
  const { caller, domain, shared } = connection;
  const relative = !asked.startsWith('/') && !isSpecial(asked);
  const added = { watcher: connection, path, token, prefix: relative ? connection.home.length + 1 : 0 };
  if (!caller.privileged) {
    if (exceeds(domain.watches + 1, domain.quotas.watches)) return 'ENOSPC';
    if (!domain.hasMemoryFor(watchSize(added))) return 'ENOMEM';
  }
  connection.watches.set(key, added);
  shared.store.watches.add(added);
  domain.watches++;
  domain.addMemory(watchSize(added));
  return { payload: 'OK\0', after: () => connection.event(asked, token, undefined) };
}

export function unwatch({ connection, payload }: Request): Answer | WireError {
  const args = strings(payload);
  if (args.length !== 2) return 'EINVAL';
  const path = connection.resolve(args[0]!, true);
  if (path === undefined) return 'EINVAL';
  const key = `${path}\0${args[1]!}`;
  const found = connection.watches.get(key);
  if (found === undefined) return 'ENOENT';
  connection.watches.delete(key);
  connection.shared.store.watches.remove(found);
  connection.domain.watches--;
  connection.domain.addMemory(-watchSize(found));
  return acknowledge(undefined);
}

/** Watches and transactions both, whatever the name says (xenstored). */
export function resetWatches({ connection }: Request): Answer {
  connection.forgetClient();
  return { payload: 'OK\0' };
}
