/** QEMU's tools, for tests that need them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestFn } from 'ava';

const installed =
  spawnSync('qemu-storage-daemon', ['--version']).status === 0 && spawnSync('qemu-img', ['--version']).status === 0;
if (!installed) console.log('skipped: disks behind a storage daemon (qemu-storage-daemon or qemu-img is not installed)');

/** `test`, or a skipped one where there is no daemon. */
export const storageDaemon = (test: TestFn): TestFn => (installed ? test : (test.skip as TestFn));

/** Converts a raw image and takes it away; returns the new one's path. */
export function toImage(raw: string, format: string, path: string, options = ''): string {
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', format, ...(options === '' ? [] : ['-o', options]), raw, path]);
  rmSync(raw);
  return path;
}

/** What is in an image, as a raw one would have it. */
export function rawContent(path: string, format: string): Buffer {
  const raw = `${path}.raw`;
  execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', path, raw]);
  const content = readFileSync(raw);
  rmSync(raw);
  return content;
}

/** Storage daemons whose command line has this text in it. Tests of other files run in this process, too. */
export function daemonsOf(text: string): number[] {
  return readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).map(Number).filter((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      return line.startsWith('qemu-storage-daemon') && line.includes(text);
    } catch {
      return false;
    }
  });
}

/** Whether a process ends within five seconds. */
export async function gone(pid: number): Promise<boolean> {
  for (let i = 0; i < 500; i++) {
    try {
      // A zombie is gone, too (whoever became its parent has not looked yet), once its last thread has let go of the files.
      const zombie = /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
      if (zombie && readdirSync(`/proc/${pid}/task`).length === 1) return true;
    } catch {
      return true;
    }
    await sleep(10);
  }
  return false;
}
