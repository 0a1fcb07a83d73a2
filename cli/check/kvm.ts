/** What /dev/kvm offers: whether it opens, and which of Xen's interfaces the kernel's KVM has. */
import { closeSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import type * as Ffi from 'ffi-napi';
import { KvmXenCap } from '../../kvm/bridge.js';
import { OperatorError } from '../../shim/observe/errors.js';

const require = createRequire(import.meta.url);

const KVM_CHECK_EXTENSION = 0xae03;
const KVM_CAP_XEN_HVM = 38;

/**
 * What no guest can do without: hypercalls that come to us, a kernel that knows the guest's areas, and
 * KVM_XEN_HVM_EVTCHN_SEND, by which every event of the shim itself is raised. Linux 5.19 has them all.
 */
export const REQUIRED = KvmXenCap.INTERCEPT_HCALL | KvmXenCap.SHARED_INFO | KvmXenCap.EVTCHN_SEND;

export interface KvmProbe {
  /** errno name when /dev/kvm cannot be opened. */
  readonly error?: string;
  /** KVM_CAP_XEN_HVM; 0 = the kernel is built without CONFIG_KVM_XEN. */
  readonly xen: number;
}

export function probeKvm(path = '/dev/kvm'): KvmProbe {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (error) {
    return { error: (error as NodeJS.ErrnoException).code ?? 'unknown error', xen: 0 };
  }
  try {
    const ffi = require('ffi-napi') as typeof Ffi;
    const libc = ffi.Library(null, { ioctl: ['int', ['int', 'ulong', 'ulong']] });
    return { xen: Math.max(0, libc.ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_XEN_HVM)) };
  } finally {
    closeSync(fd);
  }
}

/** Why no guest can run here, or undefined. */
export function kvmProblem(probe: KvmProbe): OperatorError | undefined {
  switch (probe.error) {
    case undefined:
      break;
    case 'ENOENT':
      return new OperatorError('NO_KVM', 'this host has no /dev/kvm',
        'switch virtualization on in the firmware and load kvm-intel or kvm-amd', 3);
    case 'EACCES':
    case 'EPERM':
      return new OperatorError('KVM_PERMISSION', '/dev/kvm may not be used', 'join the group kvm, or run as root', 3);
    default:
      return new OperatorError('NO_KVM', `/dev/kvm does not open (${probe.error})`, 'see the kernel log', 3);
  }
  if ((probe.xen & REQUIRED) === REQUIRED) return undefined;
  if ((probe.xen & KvmXenCap.INTERCEPT_HCALL) !== 0) {
    const names = Object.entries(KvmXenCap).filter(([, bit]) => (REQUIRED & bit & ~probe.xen) !== 0).map(([name]) => name);
    return new OperatorError('OLD_KVM_XEN', `this kernel's KVM lacks ${names.join(' and ')}`, 'use Linux 5.19 or newer', 3);
  }
  return new OperatorError('NO_KVM_XEN', "this kernel's KVM does not forward Xen hypercalls",
    'use a kernel with CONFIG_KVM_XEN=y', 3);
}

/** @throws OperatorError when no guest can run here */
export function requireKvm(): void {
  const problem = kvmProblem(probeKvm());
  if (problem !== undefined) throw problem;
}
