/** Disks on a real block device: a loop device, where this machine lets us have one. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';

import { openImage } from '../../../backends/block/image.js';
import type { ImageOptions } from '../../../backends/block/image.js';
import { withSbin } from '../../../vm-images/process.js';
import { BlockLab } from './lab.js';

function losetup(...args: string[]): string | undefined {
  const { status, stdout } = spawnSync('losetup', args, {
    encoding: 'utf8',
    env: { ...process.env, PATH: withSbin(process.env['PATH']) },
  });
  return status === 0 ? stdout.trim() : undefined;
}

let files = 0;

/** A loop device on a file of these sectors. */
function loopDevice(t: ExecutionContext, lab: BlockLab, sectors: number, ...args: string[]): { path: string; file: string } {
  const file = lab.image(sectors, `loop${files++}.img`);
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

withLoop('a device that discards says so; a discard gives back what it covers, whatever its flag, and leaves the rest', async (t) => {
  const lab = new BlockLab();
  const sectors = 1 << 18;
  const device = loopDevice(t, lab, sectors);
  lab.backend(device.path);
  const front = lab.front();
  await front.connect();
  const queue = `/sys/block/${basename(device.path)}/queue`;
  const granularity = readFileSync(`${queue}/discard_granularity`, 'utf8').trim();
  const told = ['feature-discard', 'discard-granularity', 'discard-alignment', 'discard-secure', 'discard-enable'];
  t.deepEqual(told.map((key) => front.backendKey(key)), ['1', granularity, '0', '0', '1']);
  const blocks = (): number => statSync(device.file).blocks;
  const before = lab.read(device.file);
  const allocated = blocks();
  // A hole may cost the file system a block or two of its own.
  const own = 64;
  t.is(await front.discard(2048, 1024), 0);
  const little = blocks();
  t.true(little <= allocated - 1024 + own, `${allocated} blocks, then ${little}`);
  const page = lab.guest.page();
  t.is(await front.transfer(false, 2048, [page]), 0);
  t.true(page.u8.every((byte) => byte === 0));
  t.is(await front.transfer(false, 2040, [page]), 0);
  t.true(before.subarray(2040 * 512, 2048 * 512).equals(page.u8));
  // More than a device is asked for at once, begun where none of its pieces begins; a flag that was not offered.
  t.is(await front.discard(4096 + 8, sectors - 4096 - 8, 0, 1), 0);
  t.true(blocks() <= 4096 - 1024 + own, `${blocks()} blocks left`);
  t.is(await front.transfer(false, 4096, [page]), 0);
  t.true(before.subarray(4096 * 512, 4104 * 512).equals(page.u8));
  t.is(await front.transfer(false, sectors - 8, [page]), 0);
  t.true(page.u8.every((byte) => byte === 0));
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

withLoop('discard is offered on a device that can, and not when told not to or read only', async (t) => {
  const lab = new BlockLab();
  const device = loopDevice(t, lab, 2048);
  const offered = (options: ImageOptions): boolean => {
    const disk = openImage(device.path, options);
    disk.close();
    return disk.target.discardGranularity !== undefined;
  };
  t.true(offered({ readonly: false }));
  t.false(offered({ readonly: true }));
  t.false(offered({ readonly: false, discard: false }));
  t.is(await lab.close(), 0);
});

withLoop('E70: on a device, too, a discard of nothing or past the end is ERROR, and EOPNOTSUPP where not offered', async (t) => {
  const lab = new BlockLab();
  const device = loopDevice(t, lab, 2048, '--sector-size', '4096');
  lab.backend(device.path);
  lab.backend(loopDevice(t, lab, 2048, '--read-only').path, { discard: false, readonly: true });
  const front = lab.front();
  await front.connect();
  const before = lab.read(device.file);
  // Nothing, behind the end, over it, and parts of sectors.
  for (const [sector, sectors] of [[0, 0], [2048, 8], [2040, 16], [0, 2056], [4, 8], [8, 4]] as const) {
    t.is(await front.discard(sector, sectors), -1, `${sector} ${sectors}`);
  }
  t.true(before.equals(lab.read(device.file)));
  await front.disconnect();
  const readonly = lab.front(1);
  await readonly.connect();
  t.is(readonly.backendKey('feature-discard'), undefined);
  t.is(await readonly.discard(0, 8), -1);
  await readonly.disconnect();
  t.deepEqual([...front.complaints, ...readonly.complaints], []);
  t.is(await lab.close(), 0);
});

withLoop('a frontend may leave with discards, reads and writes under way, and come back, again and again', async (t) => {
  const lab = new BlockLab();
  const sectors = 1 << 18;
  lab.backend(loopDevice(t, lab, sectors).path);
  const front = lab.front();
  const page = lab.guest.page();
  for (let round = 0; round < 5; round++) {
    await front.connect();
    const answers = [
      ...Array.from({ length: 6 }, () => front.discard(8, sectors - 8)),
      front.transfer(false, 0, [page]),
    ];
    await answers.at(-1);
    await front.disconnect();
    // What had not been done when the frontend left is an error, and nothing waits for ever.
    for (const status of await Promise.all(answers)) t.true(status === 0 || status === -1);
  }
  await front.connect();
  t.is(await front.discard(8, 64), 0);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(lab.ports.bound, 0);
  t.is(await lab.close(), 0);
});

withLoop('a partition discards as its disk does, from where it begins on the disk', async (t) => {
  const lab = new BlockLab();
  const device = loopDevice(t, lab, 1 << 17, '--partscan');
  // Begins one sector behind a whole piece of the disk.
  const { status } = spawnSync('addpart', [device.path, '1', '2049', '65536'], { env: { ...process.env, PATH: withSbin(process.env['PATH']) } });
  t.is(status, 0);
  lab.backend(`${device.path}p1`);
  const front = lab.front();
  await front.connect();
  const [granularity, alignment] = ['discard-granularity', 'discard-alignment'].map((key) => Number(front.backendKey(key)));
  t.is(alignment, granularity! - 512);
  const before = statSync(device.file).blocks;
  t.is(await front.discard(0, 65536), 0);
  // But for the pieces it has only a part of.
  t.true(statSync(device.file).blocks <= before - 65536 + 2 * (granularity! / 512));
  const page = lab.guest.page();
  t.is(await front.transfer(false, 32768, [page]), 0);
  t.true(page.u8.every((byte) => byte === 0));
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});
