/** The link `tap=NAME`: an interface of this process's network namespace, created for the vif or adopted as it is. */
import { closeSync, constants, openSync } from 'node:fs';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Link, Offloads } from './link.js';
import * as tun from './tun.js';
import { VnetHeader } from './vnet-header.js';

const DEVICE = '/dev/net/tun';
/** What the kernel refuses in a name, and '%', which it would take for a template. */
const BAD_NAME = /[\s/:%]|[^\x21-\x7e]/;

const Linux = Object.freeze({ EPERM: 1, EBUSY: 16, EINVAL: 22 });

function checkName(name: string): void {
  if (name.length > 0 && name.length < tun.IFNAMSIZ && name !== '.' && name !== '..' && !BAD_NAME.test(name)) return;
  throw new OperatorError(
    'TAP_NAME',
    `'${name}' cannot be the name of a network interface`,
    `use 1 to ${tun.IFNAMSIZ - 1} characters without blanks, '/', ':' and '%'`,
  );
}

function openDevice(name: string): number {
  try {
    return openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
      throw new OperatorError('TUN_MISSING', `tap=${name}: ${DEVICE} is not there`, 'run modprobe tun', 3);
    }
    throw new OperatorError(
      'TAP_PERMISSION',
      `tap=${name}: cannot open ${DEVICE} (${code})`,
      `make ${DEVICE} readable and writable for this user`,
      3,
    );
  }
}

function refusal(name: string, existed: boolean, errno: number): OperatorError {
  if (errno === Linux.EBUSY) {
    return new OperatorError(
      'TAP_BUSY',
      `tap=${name}: another program is using this interface`,
      'stop that program or choose another tap',
    );
  }
  if (errno === Linux.EPERM) {
    return new OperatorError(
      'TAP_PERMISSION',
      existed ? `tap=${name}: the interface belongs to another user` : `tap=${name}: creating a tap needs CAP_NET_ADMIN`,
      existed
        ? `make it again with 'ip tuntap add ${name} mode tap user $USER'`
        : `run as root, or once as root: ip tuntap add ${name} mode tap user $USER && ip link set ${name} up`,
      3,
    );
  }
  if (errno === Linux.EINVAL && existed) {
    return new OperatorError(
      'TAP_KIND',
      `tap=${name}: the interface of this name is not a tap`,
      'choose another name, or remove that interface',
    );
  }
  return new OperatorError('TAP_OPEN', `tap=${name}: the kernel refuses it (errno ${errno})`, 'see the kernel log', 3);
}

const FLAGS = tun.Iff.TAP | tun.Iff.NO_PI | tun.Iff.VNET_HDR;

/** Attaches to the interface, and says whether it takes several queues: one that exists has made up its mind on that. */
function attach(fd: number, name: string, existed: boolean, queues: number): { error: number; multiQueue: boolean } {
  const wanted = queues > 1;
  for (const multiQueue of existed ? [wanted, !wanted] : [wanted]) {
    const error = tun.setInterface(fd, name, FLAGS | (multiQueue ? tun.Iff.MULTI_QUEUE : 0));
    if (error !== -Linux.EINVAL) return { error, multiQueue };
  }
  return { error: -Linux.EINVAL, multiQueue: false };
}

/** One more descriptor of a multi-queue tap. @throws OperatorError */
function openQueue(name: string): number {
  const fd = openDevice(name);
  let error = tun.setInterface(fd, name, FLAGS | tun.Iff.MULTI_QUEUE);
  if (error === 0) error = tun.setVnetHeaderSize(fd, VnetHeader.SIZE);
  if (error === 0) return fd;
  closeSync(fd);
  throw refusal(name, true, -error);
}

export interface TapLink extends Link {
  /** False when the interface was there before and will stay. */
  readonly created: boolean;
}

/**
 * Opens a tap by name.
 * @param queues that a frontend may use at most; one that exists as a single-queue tap stays so
 * @throws OperatorError TAP_NAME, TUN_MISSING, TAP_PERMISSION, TAP_BUSY, TAP_KIND, TAP_OPEN
 */
export function openTap(name: string, queues = 1): TapLink {
  checkName(name);
  const fd = openDevice(name);
  const created = !tun.interfaceExists(name);
  const { multiQueue, ...attached } = attach(fd, name, !created, queues);
  let { error } = attached;
  if (error === 0) error = tun.setVnetHeaderSize(fd, VnetHeader.SIZE);
  // An adopted interface is configured as its owner wants it; only ours would never come up by itself.
  if (error === 0 && created) error = tun.bringUp(name);
  if (error < 0) {
    closeSync(fd);
    throw refusal(name, !created, -error);
  }
  let open = true;
  const fds = [fd];
  const ownMtu = created ? tun.getMtu(name) : 0;
  return {
    description: `tap=${name}`,
    interfaceName: name,
    fd,
    created,
    maxQueues: multiQueue ? queues : 1,
    queues(count: number) {
      while (fds.length < count) fds.push(openQueue(name));
      for (const extra of fds.splice(count)) closeSync(extra);
      return fds;
    },
    setMtu(bytes: number | undefined) {
      // An adopted interface has the MTU its owner gave it.
      if (open && created) tun.setMtu(name, bytes ?? ownMtu);
    },
    setOffloads(offloads: Offloads) {
      const csum = offloads.csum4 || offloads.csum6;
      // The kernel knows one switch for both checksums, and no segmentation without it.
      const bits =
        (csum ? tun.TunOffload.CSUM : 0) |
        (csum && offloads.tso4 ? tun.TunOffload.TSO4 : 0) |
        (csum && offloads.tso6 ? tun.TunOffload.TSO6 : 0);
      if (open) tun.setOffload(fd, bits);
    },
    setCarrier(on: boolean) {
      // Kernels before 5.0 do not know it, and a tap without carrier control works all the same.
      if (open) tun.setCarrier(fd, on);
    },
    close() {
      if (!open) return;
      open = false;
      tun.setOffload(fd, 0);
      if (!created) tun.setCarrier(fd, true);
      for (const each of fds) closeSync(each);
    },
  };
}
