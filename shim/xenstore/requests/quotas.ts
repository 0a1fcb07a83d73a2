/** GET_QUOTA, SET_QUOTA: of one domain, or, without a domid, what new domains get. */
import type { WireError } from '../../abi/io/xs_wire.js';
import type { Answer } from '../connection.js';
import { decimal, strings } from '../message.js';
import { defaultQuotas, isQuotaName, type Quotas } from '../quota.js';
import type { Request } from '../requests.js';
import { acknowledge, text } from './answer.js';

function quotasOf({ connection }: Request, domid: string | undefined): Quotas | WireError {
  const { store } = connection.shared;
  if (domid === undefined) return store.quotas;
  const id = decimal(domid);
  return id === undefined ? 'EINVAL' : (store.findDomain(id)?.quotas ?? 'ENOENT');
}

/** [[domid] name]; with neither, the names there are. */
export function getQuota(request: Request): Answer | WireError {
  const args = strings(request.payload);
  const name = args.pop();
  if (name === undefined || name === '') return text(Object.keys(defaultQuotas).join(' '));
  if (args.length > 1 || !isQuotaName(name)) return 'EINVAL';
  const quotas = quotasOf(request, args[0]);
  return typeof quotas === 'string' ? quotas : text(String(quotas[name]));
}

/** [domid] name value */
export function setQuota(request: Request): Answer | WireError {
  const args = strings(request.payload);
  const value = decimal(args.pop() ?? '');
  const name = args.pop() ?? '';
  if (value === undefined || args.length > 1 || !isQuotaName(name)) return 'EINVAL';
  const quotas = quotasOf(request, args[0]);
  if (typeof quotas === 'string') return quotas;
  quotas[name] = value;
  return acknowledge(undefined);
}
