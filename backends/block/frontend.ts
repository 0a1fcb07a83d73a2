/** What a block frontend says of itself in the store (spec B2), read once per connection and checked. */
import { Errno } from '../../shim/abi/errno.js';
import { XenError } from '../../shim/observe/errors.js';
import type { BackendDevice } from '../../shim/xenbus/backend-device.js';
import type { ProtocolName } from './messages.js';

/** XENBUS_MAX_RING_GRANT_ORDER: 16 pages, 512 requests. */
export const MAX_RING_ORDER = 4;
const MAX_GREF = 0xffff_ffff;
const MAX_PORT = 0xffff_ffff;

export interface FrontendQueue {
  readonly ringRefs: readonly number[];
  /** The guest's port. */
  readonly eventChannel: number;
}

export interface FrontendSettings {
  readonly protocol: ProtocolName;
  /** It leaves grants in place if we keep them. */
  readonly persistent: boolean;
  readonly queues: readonly FrontendQueue[];
}

export interface NegotiationLimits {
  readonly maxQueues: number;
  /** What a frontend that names no protocol speaks. */
  readonly defaultProtocol: ProtocolName;
}

/** @throws XenError when a key is missing or out of range */
export function readFrontend(device: BackendDevice, limits: NegotiationLimits): FrontendSettings {
  const protocol = readProtocol(device, limits.defaultProtocol);
  const count = device.frontendNumber('multi-queue-num-queues', limits.maxQueues, 1);
  if (count === 0) throw new XenError(Errno.EINVAL, 'multi-queue-num-queues is 0');
  const order = device.frontendKey('ring-page-order');
  const pages =
    order === undefined ? undefined : 2 ** device.frontendNumber('ring-page-order', MAX_RING_ORDER);
  const queues = Array.from({ length: count }, (_, queue) => {
    const prefix = count === 1 ? '' : `queue-${queue}/`;
    return {
      ringRefs: readRingRefs(device, prefix, pages),
      eventChannel: device.frontendNumber(`${prefix}event-channel`, MAX_PORT),
    };
  });
  return { protocol, persistent: device.frontendFlag('feature-persistent'), queues };
}

function readProtocol(device: BackendDevice, fallback: ProtocolName): ProtocolName {
  const protocol = device.frontendKey('protocol');
  switch (protocol) {
    case undefined:
      return fallback;
    case 'x86_64-abi':
    case 'x86_32-abi':
      return protocol;
    default:
      throw new XenError(Errno.ENOSYS, 'unknown frontend protocol');
  }
}

/** One page: `ring-ref`. With an order named: `ring-ref0` and on, though a single page may still be `ring-ref`. */
function readRingRefs(device: BackendDevice, prefix: string, pages: number | undefined): number[] {
  const single = pages === undefined || (pages === 1 && device.frontendKey(`${prefix}ring-ref0`) === undefined);
  if (single) return [device.frontendNumber(`${prefix}ring-ref`, MAX_GREF)];
  return Array.from({ length: pages }, (_, page) => device.frontendNumber(`${prefix}ring-ref${page}`, MAX_GREF));
}
