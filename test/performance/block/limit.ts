/**
 * The physical limit: fio with io_uring on the same file. Where the two processors of a machine are threads of one core, a
 * frontend that polls takes up to half of the core away from whoever does the I/O; so in the cases where the load polls,
 * a process that does nothing else polls beside fio, too.
 */
import { spawn } from 'node:child_process';

import { runOn } from '../helpers/native-load.js';
import type { BlockCase } from './cases.js';

interface FioResult {
  readonly jobs: readonly { readonly read: { readonly iops: number }; readonly write: { readonly iops: number } }[];
}

/** Runs `measure` while a poller (native/poller.c) keeps a core busy. */
export async function besidePoller<T>(poller: string, core: number, measure: () => Promise<T>): Promise<T> {
  const child = spawn('taskset', ['-c', String(core), poller], { stdio: ['pipe', 'inherit', 'inherit'] });
  const ended = new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`the poller ended with ${code}`));
    });
  });
  try {
    return await measure();
  } finally {
    child.stdin.end();
    await ended;
  }
}

export async function limitIops(core: number, path: string, test: BlockCase, seconds: number): Promise<number> {
  const { direct, write, random, pages, depth } = test;
  const way = `${random ? 'rand' : ''}${write ? 'write' : 'read'}`;
  const output = await runOn(core, [
    'fio',
    '--name=limit',
    '--ioengine=io_uring',
    `--filename=${path}`,
    `--rw=${way}`,
    `--bs=${pages * 4}k`,
    `--iodepth=${depth}`,
    // Submits and completes in batches, as a backend does.
    `--iodepth_batch=${depth}`,
    '--iodepth_batch_complete_min=1',
    `--iodepth_batch_complete_max=${depth}`,
    `--direct=${direct ? 1 : 0}`,
    '--registerfiles=1',
    '--norandommap',
    '--randrepeat=0',
    '--invalidate=0',
    '--time_based',
    `--ramp_time=${Math.round(seconds * 250)}ms`,
    `--runtime=${Math.round(seconds * 1000)}ms`,
    '--output-format=json',
  ]);
  const [job] = (JSON.parse(output.slice(output.indexOf('{'))) as FioResult).jobs;
  return write ? job!.write.iops : job!.read.iops;
}
