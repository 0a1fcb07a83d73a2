/** INTRODUCE, RELEASE, RESUME, SET_TARGET, IS_DOMAIN_INTRODUCED, GET_DOMAIN_PATH. */
import type { WireError } from '../../abi/io/xs_wire.js';
import type { Answer } from '../connection.js';
import { decimal, onlyString, strings } from '../message.js';
import { homeOf } from '../path.js';
import type { Request } from '../requests.js';
import { acknowledge, text } from './answer.js';

const DOMID_SELF = 0x7ff0;

function onlyDomid({ payload }: Request): number | undefined {
  const arg = onlyString(payload);
  return arg === undefined ? undefined : decimal(arg);
}

/** domid, gfn of the ring, event channel port */
export function introduce({ connection, payload }: Request): Answer | WireError {
  const args = strings(payload);
  if (args.length < 3) return 'EINVAL';
  const [domid, gfn, port] = args.map(decimal);
  if (domid === undefined || gfn === undefined || port === undefined || port === 0) return 'EINVAL';
  return acknowledge(connection.shared.toolstack.introduce(domid, gfn, port));
}

export function release(request: Request): Answer | WireError {
  const domid = onlyDomid(request);
  if (domid === undefined || domid === 0) return 'EINVAL';
  return acknowledge(request.connection.shared.toolstack.release(domid));
}

export function resume(request: Request): Answer | WireError {
  const domid = onlyDomid(request);
  if (domid === undefined || domid === 0) return 'EINVAL';
  return acknowledge(request.connection.shared.toolstack.resume(domid));
}

export function setTarget({ connection, payload }: Request): Answer | WireError {
  const [domid, target] = strings(payload).map(decimal);
  if (domid === undefined || target === undefined) return 'EINVAL';
  return acknowledge(connection.shared.toolstack.setTarget(domid, target));
}

export function isDomainIntroduced(request: Request): Answer | WireError {
  const domid = onlyDomid(request);
  if (domid === undefined) return 'EINVAL';
  return text(domid === DOMID_SELF || request.connection.shared.toolstack.isIntroduced(domid) ? 'T' : 'F');
}

export function getDomainPath(request: Request): Answer | WireError {
  const domid = onlyDomid(request);
  return domid === undefined ? 'EINVAL' : text(homeOf(domid));
}
