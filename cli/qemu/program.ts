/** The user's QEMU: where it is, whether a plugin can be preloaded into it, and whether it is new enough. */
import { execFile } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { OperatorError } from '../../shim/observe/errors.js';

/** QEMU 7.2: the oldest release the plugin has been run with (Debian 12's). */
export const OLDEST = [7, 2] as const;

/** Full path of a program, as a shell would find it. */
export function findProgram(name: string): string | undefined {
  const candidates = name.includes('/')
    ? [name]
    : (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder || '.', name));
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return statSync(path).isFile();
    } catch {
      return false;
    }
  });
}

// elf.h
const ELF_MAGIC = 0x7f454c46;
const ELFCLASS64 = 2;
const EM_X86_64 = 62;
const PT_INTERP = 3;
const PHDR_SIZE = 56;

/**
 * How a program is made: dynamically linked ELF, static ELF, ELF the plugin cannot be loaded into because it is for
 * another machine, or something else (a script; a program that may be run but not read).
 */
export function linkage(path: string): 'dynamic' | 'static' | 'foreign' | 'other' {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return 'other';
  }
  try {
    const head = Buffer.alloc(64);
    if (readSync(fd, head, 0, 64, 0) < 20 || head.readUInt32BE(0) !== ELF_MAGIC) return 'other';
    if (head[4] !== ELFCLASS64 || head.readUInt16LE(18) !== EM_X86_64) return 'foreign';
    const at = head.readBigUInt64LE(32);
    const size = head.readUInt16LE(54);
    const count = head.readUInt16LE(56);
    if (size < PHDR_SIZE || at > Number.MAX_SAFE_INTEGER) return 'foreign';
    const table = Buffer.alloc(size * count);
    readSync(fd, table, 0, table.length, Number(at));
    for (let i = 0; i < count; i++) if (table.readUInt32LE(i * size) === PT_INTERP) return 'dynamic';
    return 'static';
  } finally {
    closeSync(fd);
  }
}

/** Parses the first line of `qemu-system-x86_64 --version`. */
export function parseVersion(text: string): [number, number] | undefined {
  const match = /QEMU emulator version (\d+)\.(\d+)/.exec(text);
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

export interface Program {
  /** Full path. */
  readonly path: string;
  /** A script, or what else is no ELF file: it may have a QEMU behind it. */
  readonly wrapper: boolean;
}

/** Finds the program, and looks at its file. @throws OperatorError */
export function qemuProgram(name: string): Program {
  const path = findProgram(name);
  if (path === undefined) {
    throw new OperatorError('NO_QEMU', `there is no program '${name}'`, 'install it: apt install qemu-system-x86', 3);
  }
  const made = linkage(path);
  if (made === 'foreign') {
    throw new OperatorError('QEMU_FOREIGN', `${path} is no 64-bit x86 program`, 'use an x86-64 build of qemu-system-x86_64');
  }
  if (made === 'static') {
    throw new OperatorError('QEMU_STATIC', `${path} is statically linked`,
      "nothing can be preloaded into it: use your distribution's qemu-system-x86_64");
  }
  return { path, wrapper: made === 'other' };
}

/** Asks the program for its version: as long a wait as QEMU's own start, so do something else meanwhile. @throws OperatorError */
export async function checkVersion({ path, wrapper }: Program): Promise<readonly [number, number] | undefined> {
  const text = await new Promise<string>((resolve) => {
    execFile(path, ['--version'], { timeout: 20_000 }, (_error, stdout) => {
      resolve(stdout);
    });
  });
  const version = parseVersion(text);
  // A wrapper script may not answer --version; then the QEMU behind it is taken on trust.
  if (version === undefined && wrapper) return undefined;
  if (version === undefined) {
    throw new OperatorError('NOT_QEMU', `${path} does not say it is QEMU`, 'name a qemu-system-x86_64 after --');
  }
  if (version[0] < OLDEST[0] || (version[0] === OLDEST[0] && version[1] < OLDEST[1])) {
    throw new OperatorError('QEMU_TOO_OLD', `${path} is QEMU ${version.join('.')}`,
      `use QEMU ${OLDEST.join('.')} or newer`);
  }
  return version;
}
