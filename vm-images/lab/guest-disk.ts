/** The guest images as one disk for the lab: GUEST/disk.img, GUEST/vmlinuz and what else an image has, in an ext4 file system. */
import { createHash } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { builtImage, type Progress } from '../build.js';
import type { ImageSpec } from '../manifest.js';
import { cachePath, markUsed, pruneUnused } from '../paths.js';
import { run } from '../process.js';

/** The disk with the images of `specs`, from the cache or made now. It has room for copies of them. */
export async function guestDisk(specs: readonly ImageSpec[], progress: Progress): Promise<string> {
  const images = await Promise.all(specs.map((spec) => builtImage(spec, progress)));
  const key = createHash('sha256').update(images.map((image) => image.dir).join()).digest('hex').slice(0, 12);
  const file = cachePath('guest-disks', `${key}.img`);
  if (existsSync(file)) {
    markUsed(file);
    return file;
  }
  mkdirSync(dirname(file), { recursive: true });
  pruneUnused(dirname(file));
  const work = mkdtempSync(join(dirname(file), '.building-'));
  images.forEach((image, index) => {
    const dir = join(work, 'tree', specs[index]!.name);
    mkdirSync(dir, { recursive: true });
    for (const part of readdirSync(image.dir)) if (part !== 'build.log') linkSync(join(image.dir, part), join(dir, part));
  });
  const disk = join(work, 'disk.img');
  const status = await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', join(work, 'tree'), disk, '12G'], {
    log: join(work, 'log'),
  });
  if (status !== 0) throw new Error(`mke2fs could not make the guests' disk, see ${join(work, 'log')}`);
  renameSync(disk, file);
  rmSync(work, { recursive: true });
  return file;
}
