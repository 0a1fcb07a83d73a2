/** Runs a program to its end. */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { OperatorError } from '../shim/observe/errors.js';

export interface RunOptions {
  /** File that standard output and standard error are appended to; without it they are ours. */
  readonly log?: string;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Exit status of the program (128 + signal number is not decoded: a signal counts as 1). */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<number> {
  const out = options.log === undefined ? undefined : openSync(options.log, 'a');
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', out ?? 'inherit', out ?? 'inherit'],
      env: { ...process.env, PATH: withSbin(process.env['PATH']), ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'ENOENT' ? missing(program) : error);
    });
    child.once('exit', (status) => {
      resolve(status ?? 1);
    });
  }).finally(() => {
    if (out !== undefined) closeSync(out);
  }) as Promise<number>;
}

/** mke2fs, ip and friends live in sbin, which an ordinary user's PATH lacks on Debian. */
export function withSbin(path = '/usr/bin:/bin'): string {
  return `${path}:/usr/local/sbin:/usr/sbin:/sbin`;
}

function missing(program: string): OperatorError {
  return new OperatorError(
    'PROGRAM_MISSING',
    `${program} is not installed`,
    'run `npm run demo` once, which installs what it needs, or install it with apt-get',
  );
}
