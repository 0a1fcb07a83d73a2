/** Where a running guest's sockets are: one folder a guest, which exists only while its xenshim runs. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { OperatorError } from '../shim/observe/errors.js';

/** `$XENSHIM_RUNDIR`, or /run/xenshim for root, or xenshim in the user's run-time folder. */
export function runRoot(): string {
  const chosen = process.env['XENSHIM_RUNDIR'];
  if (chosen !== undefined && chosen !== '') return chosen;
  if (process.getuid?.() === 0) return '/run/xenshim';
  return join(process.env['XDG_RUNTIME_DIR'] ?? `/tmp/xenshim-${process.getuid?.() ?? 0}`, 'xenshim');
}

export interface RunDir {
  readonly path: string;
  /** Control socket: msgpack frames (cli/control). */
  readonly control: string;
  /** xenstored's protocol, for xenstore-ls and its kin through XENSTORED_PATH. */
  readonly xenstore: string;
  /** The PV console. */
  readonly console: string;
}

export function runDir(name: string): RunDir {
  const path = join(runRoot(), name);
  return {
    path,
    control: join(path, 'control.sock'),
    xenstore: join(path, 'xenstore.sock'),
    console: join(path, 'console.sock'),
  };
}

/** Longest path of a unix socket, bytes: sun_path of unix(7) without its NUL. */
const MAX_SOCKET_PATH = 107;

/** Makes the folder, for the owner alone. @throws OperatorError */
export function makeRunDir(name: string): RunDir {
  const dir = runDir(name);
  if ([dir.control, dir.xenstore, dir.console].some((path) => Buffer.byteLength(path) > MAX_SOCKET_PATH)) {
    throw new OperatorError('RUN_DIR', `${dir.path} is too long a path for the sockets in it`,
      'use a shorter --name, or set XENSHIM_RUNDIR to a shorter folder');
  }
  try {
    mkdirSync(dir.path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new OperatorError('RUN_DIR', `cannot make ${dir.path} (${(error as NodeJS.ErrnoException).code ?? 'error'})`,
      'set XENSHIM_RUNDIR to a folder you can write');
  }
  return dir;
}

export function removeRunDir(dir: RunDir): void {
  rmSync(dir.path, { recursive: true, force: true });
}

/** Names of the guests that have a folder. */
export function runningNames(): string[] {
  try {
    return readdirSync(runRoot()).sort();
  } catch {
    return [];
  }
}
