/** Disks on a real block device: a loop device, where this machine lets us have one. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';

import { openImage } from '../../../backends/block/image.js';
import { withSbin } from '../../../vm-images/process.js';
import { BlockLab } from './lab.js';

function losetup(...args: string[]): string | undefined {
  const { status, stdout } = spawnSync('losetup', args, {
    encoding: 'utf8',
    env: { ...process.env, PATH: withSbin(process.env['PATH']) },
  });
  return status === 0 ? stdout.trim() : undefined;
}

/** A loop device on a file of these sectors. */
function loopDevice(t: ExecutionContext, lab: BlockLab, sectors: number, ...args: string[]): { path: string; file: string } {
  const file = lab.image(sectors);
  const path = losetup('--find', '--show', ...args, file);
  if (path === undefined) throw new Error('no loop device');
  t.teardown(() => void losetup('--detach', path));
  return { path, file };
}

function loopsWork(): boolean {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-loop-'));
  const file = join(dir, 'file');
  writeFileSync(file, Buffer.alloc(4096));
  const device = losetup('--find', '--show', file);
  if (device !== undefined) losetup('--detach', device);
  rmSync(dir, { recursive: true });
  return device !== undefined;
}

const loops = loopsWork();
const withLoop = loops ? test : test.skip;
if (!loops) console.log('skipped: disks on block devices (a loop device takes root and the loop module)');

withLoop('a block device that was made larger counts after a refresh; its size is not ours to change', async (t) => {
  const lab = new BlockLab();
  const device = loopDevice(t, lab, 2048);
  const backend = lab.backend(device.path);
  const front = lab.front();
  await front.connect();
  t.is(front.backendKey('type'), 'phy');
  t.regex(front.backendKey('physical-device') ?? '', /^7:[0-9a-f]+$/);
  await t.throwsAsync(backend.resize({ bytes: 4096 * 512, shrink: false }), { code: 'DISK_FIXED' });
  truncateSync(device.file, 4096 * 512);
  losetup('--set-capacity', device.path);
  t.is(await backend.resize({ shrink: false }), 4096 * 512);
  t.is(front.backendKey('sectors'), '4096');
  const page = lab.guest.page();
  t.is(await front.transfer(true, 4088, [page]), 0);
  t.is(await front.flush(), 0);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

withLoop('a device whose sectors have 4096 bytes is shown so, and cannot be shown as one of 512', async (t) => {
  const lab = new BlockLab();
  const device = loopDevice(t, lab, 2048, '--sector-size', '4096');
  t.throws(() => openImage(device.path, { readonly: false, sectorSize: 512 }), { code: 'DISK_SECTOR' });
  lab.backend(device.path);
  const front = lab.front();
  await front.connect();
  t.deepEqual(['sectors', 'sector-size', 'physical-sector-size'].map((key) => front.backendKey(key)), ['2048', '4096', '4096']);
  const page = lab.guest.page();
  t.is(await front.transfer(true, 8, [page]), 0);
  t.is(await front.transfer(true, 4, [page]), -1);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});
