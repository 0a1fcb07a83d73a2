/** A job in the lab: a command, run as root on a host with working KVM, beside this checkout and the guest images. */
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { OperatorError } from '../../shim/observe/errors.js';
import { builtImage, type Progress } from '../build.js';
import { imageSpec } from '../manifest.js';
import { guestDisk } from './guest-disk.js';
import { runMachine } from './machine.js';
import { projectDisk } from './project-disk.js';

export interface LabJob {
  /** Shell command line; runs in /project, with /images/GUEST/{disk.img,vmlinuz,initrd} and /job at hand. */
  readonly command: string;
  /** Files put into /job before the start. */
  readonly files?: readonly string[];
  readonly env?: Record<string, string>;
  /** Lab host and guests, by their names in the manifest. */
  readonly host?: string;
  readonly guests?: readonly string[];
  /** Features of the lab's CPU, as Machine has them. */
  readonly cpu?: string;
  readonly memory?: number;
  readonly timeoutSeconds?: number;
  readonly onOutput: (chunk: Buffer) => void;
  readonly progress: Progress;
  /** What the job left in /job/results is copied here. */
  readonly results?: string;
}

/** Exit status of the job's command. OperatorError LAB_FAILED if the lab ended without one,
 * LAB_PANIC if its kernel died, LAB_TIMEOUT if it was too slow. */
export async function runJob(job: LabJob): Promise<number> {
  const work = mkdtempSync(join(tmpdir(), 'xenshim-lab-'));
  try {
    return await runIn(work, job);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function runIn(work: string, job: LabJob): Promise<number> {
  const log = join(work, 'prepare.log');
  const [host, guests, project] = await Promise.all([
    builtImage(imageSpec('hosts', job.host ?? 'trixie'), job.progress),
    guestDisk((job.guests ?? ['trixie']).map((name) => imageSpec('guests', name)), job.progress),
    projectDisk(work, log),
  ]);
  const jobDir = join(work, 'job');
  mkdirSync(join(jobDir, 'results'), { recursive: true });
  for (const file of job.files ?? []) cpSync(file, join(jobDir, basename(file)));
  writeFileSync(join(jobDir, 'run'), script(job));
  chmodSync(join(jobDir, 'run'), 0o755);

  job.progress('starting the lab host (KVM inside a software CPU)');
  const timeoutSeconds = job.timeoutSeconds ?? 1200;
  const inTime = await runMachine({
    host,
    ...(job.cpu === undefined ? {} : { cpu: job.cpu }),
    memory: job.memory ?? 6144,
    disks: [project, guests],
    jobDir,
    work,
    onOutput: job.onOutput,
    timeoutSeconds,
  });
  if (job.results !== undefined) collect(work, jobDir, job.results);
  if (!inTime) {
    throw new OperatorError('LAB_TIMEOUT', `the lab job took longer than ${timeoutSeconds} s`, 'see its console.log');
  }
  const status = join(jobDir, 'status');
  if (!existsSync(status)) {
    const console = readFileSync(join(work, 'console.log'), 'utf8');
    const panic = hostPanic(console);
    if (panic !== undefined) {
      throw new OperatorError('LAB_PANIC', `the lab host's kernel died of the software CPU: ${panic}`, 'run it again');
    }
    throw new OperatorError('LAB_FAILED', `the lab host ended before its job did (${lastWords(console)})`, 'run it again');
  }
  return Number(readFileSync(status, 'utf8'));
}

/** Why a lab host ended, as far as its console tells: the kernel's complaint, or else the last line. */
export function lastWords(console: string): string {
  const lines = console.trim().split('\n');
  return lines.find((line) => /Kernel panic|BUG:|Oops:/.test(line)) ?? (lines.at(-1) || 'it said nothing');
}

/**
 * How the kernel of a lab host died, or undefined. No program can make a kernel panic: it is the software CPU, which
 * has mixed up the lab host's registers with a guest's (docs/decisions/0007).
 */
export function hostPanic(console: string): string | undefined {
  return /^\[ *\d+\.\d+\] (Kernel panic - not syncing: .*)$/m.exec(console)?.[1]?.trim();
}

function script(job: LabJob): string {
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  return [
    '#!/bin/sh',
    'mkdir -p /project /images',
    'mount -t ext4 -o ro /dev/vdb /project',
    'mount -t ext4 -o noatime /dev/vdc /images',
    'export XENSHIM_IMAGES=/images XENSHIM_LAB=1',
    ...Object.entries(job.env ?? {}).map(([name, value]) => `export ${name}=${quote(value)}`),
    'cd /project',
    `exec sh -c ${quote(job.command)}`,
    '',
  ].join('\n');
}

function collect(work: string, jobDir: string, results: string): void {
  mkdirSync(results, { recursive: true });
  cpSync(join(jobDir, 'results'), results, { recursive: true });
  for (const name of ['console.log', 'qemu.log']) {
    if (existsSync(join(work, name))) cpSync(join(work, name), join(results, `lab-${name}`));
  }
}
