/** TRANSACTION_START, TRANSACTION_END. */
import type { WireError } from '../../abi/io/xs_wire.js';
import type { Answer } from '../connection.js';
import { onlyString } from '../message.js';
import { exceeds } from '../quota.js';
import type { Request } from '../requests.js';
import { Transaction } from '../transaction.js';
import { acknowledge, text } from './answer.js';

export function start({ connection, transaction }: Request): Answer | WireError {
  if (transaction !== undefined) return 'EBUSY';
  const { caller, domain, shared } = connection;
  if (!caller.privileged && exceeds(domain.transactions + 1, domain.quotas.transactions)) return 'ENOSPC';
  const id = connection.nextTransactionId();
  connection.transactions.set(id, new Transaction(shared.store, caller));
  return text(String(id));
}

/** `T` commits, `F` gives up. Either way the transaction is over, even if the commit is refused. */
export function end({ connection, transaction, txId, payload, context }: Request): Answer | WireError {
  const how = onlyString(payload);
  if (how !== 'T' && how !== 'F') return 'EINVAL';
  if (transaction === undefined) return 'ENOENT';
  connection.transactions.delete(txId);
  if (how === 'F') {
    transaction.abort();
    return acknowledge(undefined);
  }
  const refused = transaction.commit(context.cause);
  if (refused === undefined && !context.caller.privileged) connection.shared.rate.debit(context.caller.domid);
  return acknowledge(refused);
}
