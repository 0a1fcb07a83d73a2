/** CONTROL: commands of `xenstore-control`. */
import type { WireError } from '../../abi/io/xs_wire.js';
import type { Answer } from '../connection.js';
import { decimal, strings } from '../message.js';
import { childOf } from '../path.js';
import { defaultQuotas, isQuotaName } from '../quota.js';
import type { Request } from '../requests.js';
import type { Store } from '../store.js';
import { acknowledge, text } from './answer.js';

interface Command {
  readonly usage: string;
  run(store: Store, args: readonly string[]): Answer | WireError;
}

const commands: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['check', { usage: '', run: check }],
  ['help', { usage: '', run: help }],
  ['quota', { usage: '[<domid>|set <name> <value>]', run: quota }],
]);

export function control({ connection, payload }: Request): Answer | WireError {
  const [name, ...args] = strings(payload);
  const command = name === undefined ? undefined : commands.get(name);
  return command === undefined ? 'EINVAL' : command.run(connection.shared.store, args);
}

function help(): Answer {
  return text([...commands].map(([name, { usage }]) => `${name} ${usage}`.trim()).join('\n'));
}

/** Looks for nodes without a parent that lists them, and for names listed without a node. */
function check(store: Store): Answer {
  const faults: string[] = [];
  const listed = new Set(['/']);
  for (const [path, node] of store.entries()) {
    for (const name of node.children) listed.add(childOf(path, name));
  }
  for (const [path] of store.entries()) {
    if (!listed.delete(path) && path.startsWith('/')) faults.push(`${path}: in no list`);
  }
  for (const path of listed) faults.push(`${path}: no node`);
  return text(faults.length === 0 ? 'OK' : faults.slice(0, 20).join('\n'));
}

function quota(store: Store, args: readonly string[]): Answer | WireError {
  const names = Object.keys(defaultQuotas).filter(isQuotaName);
  if (args.length === 0) return text(names.map((name) => `${name}: ${store.quotas[name]}`).join('\n'));
  if (args.length === 1) {
    const domain = store.findDomain(decimal(args[0]!) ?? -1);
    if (domain === undefined) return 'ENOENT';
    const { nodes, memory, watches, transactions, outstanding } = domain;
    const used = Object.entries({ nodes, memory, watches, transactions, outstanding });
    return text([`Domain ${domain.domid}:`, ...used.map(([name, count]) => `${name}: ${count}`)].join('\n'));
  }
  const [verb, name, value] = args;
  const number = decimal(value ?? '');
  if (verb !== 'set' || args.length !== 3 || !isQuotaName(name!) || number === undefined) return 'EINVAL';
  store.quotas[name] = number;
  return acknowledge(undefined);
}
