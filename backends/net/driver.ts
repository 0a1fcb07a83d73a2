/** Makes network backends. */
import { uringProblem } from '../../shim/io/uring.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { openLink } from './links.js';
import { defaultMac, requireMac } from './mac.js';
import { usableMtu } from './mtu.js';
import type { NetBackend, NetBackendOptions } from './net-backend.js';
import { Vif } from './vif.js';

export type { NetBackend, NetBackendChange, NetBackendOptions, NetBackendStats } from './net-backend.js';

/**
 * Creates the device's directories and serves its frontend from now on.
 * @throws OperatorError for a link that cannot be opened, an address that is none, or a host without io_uring
 */
export function createNetBackend(options: NetBackendOptions): NetBackend {
  const problem = uringProblem();
  if (problem !== undefined) {
    throw new OperatorError(
      'IO_URING',
      `this host offers no io_uring (${problem})`,
      'use Linux 5.11 or later with kernel.io_uring_disabled = 0',
      3,
    );
  }
  const description = typeof options.link === 'string' ? options.link : options.link.description;
  const mac = options.mac === undefined ? defaultMac(description, options.index) : requireMac(options.mac);
  const link = typeof options.link === 'string' ? openLink(options.link, options) : options.link;
  try {
    if (options.mtu !== undefined) usableMtu(options.mtu);
    return new Vif(options, link, mac);
  } catch (error) {
    link.close();
    throw error;
  }
}
