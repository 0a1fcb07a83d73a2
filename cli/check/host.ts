/** What this host has of the things xenshim uses, looked at without changing anything. */
import { accessSync, closeSync, constants, openSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type * as Ffi from 'ffi-napi';
import type * as Ref from 'ref-napi';
import { checkVersion, qemuProgram } from '../qemu/program.js';
import { probeKvm, type KvmProbe } from './kvm.js';

const require = createRequire(import.meta.url);

export interface TapProbe {
  /** errno name when /dev/net/tun cannot be opened. */
  readonly error?: string;
  /** IFF_* flags of the driver (linux/if_tun.h). */
  readonly features: number;
  /** CAP_NET_ADMIN: interfaces can be made, not only adopted. */
  readonly admin: boolean;
  /** Reads and writes that are not to wait are refused (before Linux 6.4), so that there is no use for io_uring. */
  readonly plain: boolean;
}

/** How user-mode page faults can be had: by which way, or not at all. */
export type UserfaultfdProbe = 'device' | 'sysctl' | 'privilege' | undefined;

export interface QemuProbe {
  readonly path: string;
  /** Undefined for a wrapper script that does not say. */
  readonly version: readonly [number, number] | undefined;
}

/** The host as the report sees it; tests put another in its place. */
export interface Host {
  kvm(): KvmProbe;
  /** Why there is no usable io_uring; undefined when there is one. */
  uring(): Promise<string | undefined>;
  /** Why no memory can be shared with QEMU; undefined when it can. */
  memfd(): Promise<string | undefined>;
  tap(): TapProbe;
  userfaultfd(): UserfaultfdProbe;
  /** @throws OperatorError when this QEMU cannot be used */
  qemu(program: string): Promise<QemuProbe>;
}

const TUNGETFEATURES = 0x800454cf;
/** linux/fs.h */
const RWF_NOWAIT = 8;
const EOPNOTSUPP = 95;
/** linux/capability.h */
const CAP_NET_ADMIN = 12n;
const CAP_SYS_PTRACE = 19n;

function hasCapability(bit: bigint): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> bit) & 1n) !== 0n;
}

/** The native addon throws when it is loaded and not built. */
async function reasonOf(act: () => Promise<string | undefined>): Promise<string | undefined> {
  try {
    return await act();
  } catch (error) {
    return (error as Error).message;
  }
}

function tap(path = '/dev/net/tun'): TapProbe {
  const admin = hasCapability(CAP_NET_ADMIN);
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (error) {
    return { error: (error as NodeJS.ErrnoException).code ?? 'unknown error', features: 0, admin, plain: false };
  }
  try {
    const ffi = require('ffi-napi') as typeof Ffi;
    const ref = require('ref-napi') as typeof Ref;
    const libc = ffi.Library(null, {
      ioctl: ['int', ['int', 'ulong', ref.refType('uint')]],
      preadv2: ['long', ['int', 'pointer', 'int', 'long', 'int']],
    });
    const features = ref.alloc('uint', 0);
    const supported = libc.ioctl(fd, TUNGETFEATURES, features) < 0 ? 0 : features.deref();
    const byte = Buffer.alloc(1);
    const iovec = Buffer.alloc(16);
    iovec.writeBigUInt64LE(BigInt(ref.address(byte)), 0);
    iovec.writeBigUInt64LE(1n, 8);
    // It has no interface, so the read fails in any case; the flag is looked at first.
    const plain = Number(libc.preadv2(fd, iovec, 1, -1, RWF_NOWAIT)) < 0 && ffi.errno() === EOPNOTSUPP;
    return { features: supported, admin, plain };
  } finally {
    closeSync(fd);
  }
}

/** userfaultfd(2): faults of the kernel itself can be handled through the device, with the sysctl, or with CAP_SYS_PTRACE. */
function userfaultfd(): UserfaultfdProbe {
  try {
    accessSync('/dev/userfaultfd', constants.R_OK | constants.W_OK);
    return 'device';
  } catch {
    // Older than Linux 6.1, or not for us.
  }
  try {
    if (readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').trim() === '1') return 'sysctl';
  } catch {
    // Built without userfaultfd.
    return undefined;
  }
  return hasCapability(CAP_SYS_PTRACE) ? 'privilege' : undefined;
}

export const thisHost: Host = {
  kvm: probeKvm,
  uring: () => reasonOf(async () => (await import('../../shim/io/uring.js')).uringProblem()),
  memfd: () => reasonOf(async () => {
    const { native } = await import('../../kvm/native.js');
    const fd = native.memfd('xenshim-check', 4096);
    try {
      native.mapShared(fd, 0, 4096, 0);
    } finally {
      native.closeFd(fd);
    }
    return undefined;
  }),
  tap,
  userfaultfd,
  qemu: async (program) => {
    const found = qemuProgram(program);
    return { path: found.path, version: await checkVersion(found) };
  },
};
