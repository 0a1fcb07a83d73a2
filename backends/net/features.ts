/** What this backend offers a frontend (spec C2), and what it reads of the frontend's answer. Only what works is offered. */
import { Errno } from '../../shim/abi/errno.js';
import { XenError } from '../../shim/observe/errors.js';
import type { BackendDevice } from '../../shim/xenbus/backend-device.js';
import { parseDecimal } from '../../shim/xenbus/parse.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import type { Offloads } from './link.js';

/** Of any link: one that takes finished frames only has somebody who finishes them (stream-relay.ts). */
export function offeredFeatures(maxQueues: number): Readonly<Record<string, string>> {
  return {
    'feature-sg': '1',
    'feature-gso-tcpv4': '1',
    'feature-gso-tcpv6': '1',
    'feature-ipv6-csum-offload': '1',
    'feature-rx-copy': '1',
    'feature-xdp-headroom': '1',
    'feature-rx-flip': '0',
    'feature-multicast-control': '1',
    'feature-dynamic-multicast-control': '1',
    'feature-split-event-channels': '1',
    'multi-queue-max-queues': String(maxQueues),
    'feature-ctrl-ring': '1',
  };
}

const MAX_U32 = 0xffffffff;
/** A slot keeps room for headers behind the headroom, whatever the frontend asks for; the frame's extra slot says how much it is. */
export const MAX_XDP_HEADROOM = PAGE_SIZE - 256;

export interface QueueNodes {
  readonly txRef: number;
  readonly rxRef: number;
  /** The guest's ports; equal when one channel serves both rings. */
  readonly txPort: number;
  readonly rxPort: number;
}

/** A frontend's half of the negotiation. */
export interface FrontendNodes {
  readonly queues: readonly QueueNodes[];
  readonly scatterGather: boolean;
  /** `feature-rx-notify`: it says when it has posted buffers. */
  readonly notifies: boolean;
  /** What it takes unfinished. */
  readonly offloads: Offloads;
  readonly control: { readonly ref: number; readonly port: number } | undefined;
}

/** @throws XenError EINVAL for what is missing or no number, EOPNOTSUPP for a frontend that wants pages flipped */
export function readFrontend(device: BackendDevice, maxQueues: number): FrontendNodes {
  if (!device.frontendFlag('request-rx-copy')) {
    throw new XenError(Errno.EOPNOTSUPP, 'frontend does not ask for request-rx-copy');
  }
  const count = device.frontendNumber('multi-queue-num-queues', maxQueues, 1);
  if (count === 0) throw new XenError(Errno.EINVAL, 'multi-queue-num-queues is 0');
  const scatterGather = device.frontendFlag('feature-sg');
  const csum4 = !device.frontendFlag('feature-no-csum-offload');
  const csum6 = device.frontendFlag('feature-ipv6-csum-offload');
  return {
    // With one queue its keys stand in the device's own directory.
    queues: count === 1 ? [readQueue(device, '')] : Array.from({ length: count }, (_, i) => readQueue(device, `queue-${i}/`)),
    scatterGather,
    notifies: device.frontendFlag('feature-rx-notify'),
    offloads: {
      csum4,
      csum6,
      // Segments are made of several slots, and each gets a checksum of its own.
      tso4: scatterGather && csum4 && device.frontendFlag('feature-gso-tcpv4'),
      tso6: scatterGather && csum6 && device.frontendFlag('feature-gso-tcpv6'),
    },
    control: readControl(device),
  };
}

/** A frontend with a ring but no channel for it is broken. */
function readControl(device: BackendDevice): FrontendNodes['control'] {
  if (device.frontendKey('ctrl-ring-ref') === undefined) return undefined;
  return {
    ref: device.frontendNumber('ctrl-ring-ref', MAX_U32),
    port: device.frontendNumber('event-channel-ctrl', MAX_U32),
  };
}

/** `xdp-headroom`, which a frontend also changes while it is connected; nonsense counts as none. */
export function readXdpHeadroom(device: BackendDevice): number {
  const headroom = parseDecimal(device.frontendKey('xdp-headroom') ?? '0', 0xffff) ?? 0;
  return Math.min(headroom, MAX_XDP_HEADROOM);
}

/** @param prefix `''` or `queue-N/` */
function readQueue(device: BackendDevice, prefix: string): QueueNodes {
  const txRef = device.frontendNumber(`${prefix}tx-ring-ref`, MAX_U32);
  const rxRef = device.frontendNumber(`${prefix}rx-ring-ref`, MAX_U32);
  const split =
    device.frontendKey(`${prefix}event-channel-tx`) !== undefined &&
    device.frontendKey(`${prefix}event-channel-rx`) !== undefined;
  const txPort = device.frontendNumber(`${prefix}event-channel${split ? '-tx' : ''}`, MAX_U32);
  const rxPort = split ? device.frontendNumber(`${prefix}event-channel-rx`, MAX_U32) : txPort;
  return { txRef, rxRef, txPort, rxPort };
}
