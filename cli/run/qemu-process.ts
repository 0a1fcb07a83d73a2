/** QEMU as our child: started with the plugin preloaded and the bridge as an inherited descriptor. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { OperatorError } from '../../shim/observe/errors.js';

/** Descriptor number of the bridge in QEMU's process. */
const BRIDGE_FD = 3;

/** The preloaded library, beside the addon. @throws OperatorError when it is not built */
export function pluginPath(): string {
  const path = ['../../kvm/build/Release/xenshim_plugin.so', '../../../kvm/build/Release/xenshim_plugin.so']
    .map((relative) => fileURLToPath(new URL(relative, import.meta.url)))
    .find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new OperatorError('NOT_BUILT', 'the plugin for QEMU is not built', 'run `npm run build:native`');
  }
  return path;
}

export interface QemuExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface QemuProcess {
  readonly pid: number;
  readonly exited: Promise<QemuExit>;
  /** Asks QEMU to end; it does so cleanly. */
  terminate(): void;
  /** Ends QEMU without asking: its vCPUs wait for what never comes. */
  kill(): void;
}

/** @param program full path. @param stdin whether QEMU gets our standard input */
export function startQemu(program: string, args: readonly string[], bridgeFd: number, stdin: boolean): QemuProcess {
  const preload = [pluginPath(), process.env['LD_PRELOAD'] ?? ''].filter((each) => each !== '').join(':');
  const child: ChildProcess = spawn(program, args, {
    stdio: [stdin ? 'inherit' : 'ignore', 'inherit', 'inherit', bridgeFd],
    env: { ...process.env, LD_PRELOAD: preload, XENSHIM_BRIDGE: String(BRIDGE_FD) },
  });
  const exited = new Promise<QemuExit>((resolve, reject) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', (error) =>
      reject(new OperatorError('QEMU_START', `cannot start ${program} (${error.message})`, 'check the program')));
  });
  return {
    pid: child.pid ?? 0,
    exited,
    terminate: () => {
      child.kill('SIGTERM');
    },
    kill: () => {
      child.kill('SIGKILL');
    },
  };
}
