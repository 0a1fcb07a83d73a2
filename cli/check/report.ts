/** From what a host has to what can be run on it: a finding per thing, with the cure for each that is missing. */
import { KvmXenCap } from '../../kvm/bridge.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Host } from './host.js';
import { anyKvmProblem, kvmMode, kvmXenProblem, REQUIRED, type KvmMode, type KvmProbe } from './kvm.js';

/** How guests' hypercalls get here, if there is a way. */
export type Mode = KvmMode | 'none';

export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  /** Without it no guest can be run. */
  readonly needed: boolean;
  /** What was found, or what is missing. */
  readonly detail: string;
  /** What to do about it; present when `ok` is false. */
  readonly cure?: string;
}

export interface Report {
  readonly mode: Mode;
  /** A guest can be run here. */
  readonly ok: boolean;
  readonly findings: readonly Finding[];
}

/** What each bit of KVM_CAP_XEN_HVM is good for. */
const CAPABILITIES: Readonly<Record<keyof typeof KvmXenCap, string>> = {
  HYPERCALL_MSR: "the kernel fills older guests' hypercall page",
  INTERCEPT_HCALL: 'hypercalls come to xenshim',
  SHARED_INFO: 'the kernel knows shared_info, vcpu_info and the Xen clock',
  RUNSTATE: 'steal time, kept by the kernel',
  EVTCHN_2LEVEL: 'backends raise events without a detour through the shim',
  EVTCHN_SEND: 'events, timers and upcall vectors in the kernel',
  RUNSTATE_UPDATE_FLAG: 'the runstate update flag',
  PVCLOCK_TSC_UNSTABLE: 'the Xen clock can be marked unstable',
  SHARED_INFO_HVA: 'shared_info by address, not used by xenshim',
};

const bad = (name: string, needed: boolean, detail: string, cure: string): Finding =>
  ({ name, ok: false, needed, detail, cure });
const good = (name: string, needed: boolean, detail: string): Finding => ({ name, ok: true, needed, detail });

function kvm(host: Host): Finding[] {
  const probe = host.kvm();
  const problem = kvmXenProblem(probe);
  if (probe.error !== undefined) return [bad('kvm', true, problem!.message, problem!.remedy)];
  const any = anyKvmProblem(probe);
  const alone = problem !== undefined;
  const first = !alone
    ? good('kvm', true, 'KVM forwards Xen hypercalls')
    : any === undefined
      ? good('kvm', true, `${problem.message}; xenshim takes them itself`)
      : bad('kvm', true, `${problem.message}, and ${any.message}`, problem.remedy);
  const second = any === undefined
    ? good('any-kvm', alone, 'what mode any-kvm needs of KVM is there')
    : bad('any-kvm', alone, any.message, any.remedy);
  const names = Object.keys(KvmXenCap) as (keyof typeof KvmXenCap)[];
  return [first, second, ...names.map((name): Finding => {
    const needed = (REQUIRED & KvmXenCap[name]) !== 0 && any !== undefined;
    return (probe.xen & KvmXenCap[name]) !== 0
      ? good(`kvm-xen ${name}`, needed, CAPABILITIES[name])
      : bad(`kvm-xen ${name}`, needed, `missing: ${CAPABILITIES[name]}`,
          probe.xen === 0 ? 'use a kernel with CONFIG_KVM_XEN=y' : 'use a newer kernel');
  })];
}

async function qemu(host: Host, program: string): Promise<Finding> {
  try {
    const { path, version } = await host.qemu(program);
    return good('qemu', true, `${path}, ${version === undefined ? 'version unknown' : `version ${version.join('.')}`}`);
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return bad('qemu', true, error.message, error.remedy);
  }
}

/** linux/if_tun.h */
const IFF_VNET_HDR = 0x4000;

function tap(host: Host): Finding {
  const { error, features, admin, plain } = host.tap();
  const missing = (detail: string, cure: string): Finding => bad('tap', false, detail, cure);
  if (error === 'ENOENT' || error === 'ENODEV' || error === 'ENXIO') {
    return missing('there is no /dev/net/tun: no --vif', 'run modprobe tun');
  }
  if (error !== undefined) {
    return missing(`/dev/net/tun does not open (${error}): no --vif`, 'make it readable and writable for this user');
  }
  if ((features & IFF_VNET_HDR) === 0) {
    return missing('taps have no virtio-net headers (IFF_VNET_HDR): no --vif', 'use a newer kernel');
  }
  const form = plain ? 'served by plain system calls' : 'served by io_uring';
  if (admin) return good('tap', false, `taps can be made and adopted; ${form}`);
  return good('tap', false, `taps of this user can be adopted; making one needs CAP_NET_ADMIN; ${form}`);
}

function userfaultfd(host: Host): Finding {
  const way = host.userfaultfd();
  if (way === undefined) {
    return bad('userfaultfd', false, 'not for this user; only --page-to needs it',
      'run as root, or give this user /dev/userfaultfd, or set vm.unprivileged_userfaultfd=1');
  }
  const by = { device: '/dev/userfaultfd', sysctl: 'vm.unprivileged_userfaultfd', privilege: 'CAP_SYS_PTRACE' }[way];
  return good('userfaultfd', false, `by ${by}; for --page-to`);
}

/** @param program QEMU to look at, as on the command line of `xenshim run` */
export async function report(host: Host, program: string): Promise<Report> {
  const uring = await host.uring();
  const memfd = await host.memfd();
  const findings = [
    ...kvm(host),
    await qemu(host, program),
    uring === undefined
      ? good('io_uring', true, 'usable')
      : bad('io_uring', true, uring, 'use Linux 5.11 or newer with kernel.io_uring_disabled=0, and a seccomp profile that allows it'),
    memfd === undefined
      ? good('memfd', true, 'guest RAM can be shared with QEMU')
      : bad('memfd', true, memfd, 'build the native part (npm run build:native); allow memfd_create and shared mappings'),
    tap(host),
    userfaultfd(host),
  ];
  const mode = modeOf(host.kvm());
  return { mode, ok: findings.every(({ ok, needed }) => ok || !needed), findings };
}

function modeOf(probe: KvmProbe): Mode {
  try {
    return kvmMode(probe);
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return 'none';
  }
}
