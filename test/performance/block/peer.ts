/** The peer: qemu-storage-daemon exporting the same file as vhost-user-blk to a native virtio driver. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { runOn } from '../helpers/native-load.js';
import type { LoadResult } from '../helpers/native-load.js';
import { loadArguments } from './ours.js';
import type { BenchPlace } from './ours.js';
import type { BlockCase } from './cases.js';

export async function peerLoad(program: string, place: BenchPlace, test: BlockCase): Promise<LoadResult> {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-bench-'));
  const socket = join(dir, 'vhost.sock');
  const file = [
    'driver=file',
    'node-name=disk',
    `filename=${place.path}`,
    'aio=io_uring',
    `cache.direct=${test.direct ? 'on' : 'off'}`,
    'locking=off',
  ].join();
  const daemon = spawn('taskset', [
    '-c',
    String(place.backendCore),
    'qemu-storage-daemon',
    '--blockdev',
    file,
    '--export',
    `type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path=${socket},writable=on,num-queues=1`,
  ], { stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = new Promise<void>((resolve) => daemon.on('close', resolve));
  try {
    for (let tries = 0; !existsSync(socket); tries++) {
      if (tries > 500 || daemon.exitCode !== null) throw new Error('qemu-storage-daemon does not come up');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const output = await runOn(place.loadCore, [program, ...loadArguments(test, place), socket]);
    return JSON.parse(output) as LoadResult;
  } finally {
    daemon.kill('SIGKILL');
    await ended;
    rmSync(dir, { recursive: true });
  }
}
