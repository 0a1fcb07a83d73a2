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

/** How guests' hypercalls get here: KVM forwards them, or the plugin takes them itself on a KVM that has nothing of Xen. */
export type KvmMode = 'kvm-xen' | 'any-kvm';
/** What mode any-kvm costs, for people. */
export const ANY_KVM_COSTS =
  'events pass through a thread of QEMU, clock reads in the guest are system calls, there is no steal time, ' +
  'and guests before Linux 6.0 are refused';
/** What the operator asks for. */
export const KVM_MODES = ['auto', 'xen', 'any'] as const;
export type WantedMode = (typeof KVM_MODES)[number];

/** What mode any-kvm needs of KVM (linux/kvm.h), and which Linux has had it since when. */
const ANY_NEEDS = Object.freeze({
  'MSR filters (Linux 5.10)': [188, 189],
  KVM_SIGNAL_MSI: [77],
  KVM_GET_CLOCK: [39],
});

export interface KvmProbe {
  /** errno name when /dev/kvm cannot be opened. */
  readonly error?: string;
  /** KVM_CAP_XEN_HVM; 0 = the kernel is built without CONFIG_KVM_XEN. */
  readonly xen: number;
  /** What mode any-kvm would need and is not there. */
  readonly lacks: readonly string[];
}

export function probeKvm(path = '/dev/kvm'): KvmProbe {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (error) {
    return { error: (error as NodeJS.ErrnoException).code ?? 'unknown error', xen: 0, lacks: [] };
  }
  try {
    const ffi = require('ffi-napi') as typeof Ffi;
    const libc = ffi.Library(null, { ioctl: ['int', ['int', 'ulong', 'ulong']] });
    const extension = (capability: number): number => Math.max(0, libc.ioctl(fd, KVM_CHECK_EXTENSION, capability));
    const lacks = Object.entries(ANY_NEEDS).filter(([, needed]) => needed.some((each) => extension(each) === 0));
    return { xen: extension(KVM_CAP_XEN_HVM), lacks: lacks.map(([name]) => name) };
  } finally {
    closeSync(fd);
  }
}

/** Why /dev/kvm is of no use at all, or undefined. */
function deviceProblem(probe: KvmProbe): OperatorError | undefined {
  switch (probe.error) {
    case undefined:
      return undefined;
    case 'ENOENT':
      return new OperatorError('NO_KVM', 'this host has no /dev/kvm',
        'switch virtualization on in the firmware and load kvm-intel or kvm-amd', 3);
    case 'EACCES':
    case 'EPERM':
      return new OperatorError('KVM_PERMISSION', '/dev/kvm may not be used', 'join the group kvm, or run as root', 3);
    default:
      return new OperatorError('NO_KVM', `/dev/kvm does not open (${probe.error})`, 'see the kernel log', 3);
  }
}

/** Why no guest can run in mode kvm-xen, or undefined. */
export function kvmXenProblem(probe: KvmProbe): OperatorError | undefined {
  const problem = deviceProblem(probe);
  if (problem !== undefined || (probe.xen & REQUIRED) === REQUIRED) return problem;
  if ((probe.xen & KvmXenCap.INTERCEPT_HCALL) !== 0) {
    const names = Object.entries(KvmXenCap).filter(([, bit]) => (REQUIRED & bit & ~probe.xen) !== 0).map(([name]) => name);
    return new OperatorError('OLD_KVM_XEN', `this kernel's KVM lacks ${names.join(' and ')}`, 'use Linux 5.19 or newer', 3);
  }
  return new OperatorError('NO_KVM_XEN', "this kernel's KVM does not forward Xen hypercalls",
    'use a kernel with CONFIG_KVM_XEN=y, or --kvm-mode any', 3);
}

/** Why no guest can run in mode any-kvm, or undefined. */
export function anyKvmProblem(probe: KvmProbe): OperatorError | undefined {
  if (probe.error !== undefined || probe.lacks.length === 0) return deviceProblem(probe);
  return new OperatorError('OLD_KVM', `this kernel's KVM lacks ${probe.lacks.join(' and ')}`,
    'use Linux 5.10 or newer', 3);
}

/** The mode guests run in here; kvm-xen where there is a choice. @throws OperatorError when no guest can run */
export function kvmMode(probe: KvmProbe, wanted: WantedMode = 'auto'): KvmMode {
  const xen = wanted === 'any' ? undefined : kvmXenProblem(probe);
  if (wanted !== 'any' && xen === undefined) return 'kvm-xen';
  const any = wanted === 'xen' ? xen : anyKvmProblem(probe);
  if (any !== undefined) throw any;
  return 'any-kvm';
}
