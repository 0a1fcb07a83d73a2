/** O_DIRECT on what this machine has: files, and a device with sectors of 4096 bytes where one can be made. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import test from 'ava';
import type { ExecutionContext } from 'ava';

import { alignmentOf, DIRECT, readAligned } from '../../../backends/block/direct.js';
import { openImage } from '../../../backends/block/image.js';
import { BlkifOp } from '../../../shim/abi/io/blkif.js';
import { refused } from '../../cli/refused.js';
import { BlockLab } from './lab.js';

test('an image opened with O_DIRECT says what buffers it takes, and a read of that alignment works', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(2048);
  const image = openImage(path, { readonly: false, direct: true });
  const { alignment = 0, sectorSize } = image.target;
  t.true([512, 1024, 2048, 4096].includes(alignment));
  t.true(sectorSize <= alignment);
  t.deepEqual(readAligned(image.fd, alignment), readFileSync(path).subarray(0, alignment));
  image.close();
  t.is(openImage(path, { readonly: true }).target.alignment, undefined);
  t.is(await lab.close(), 0);
});

test('a file that is no disk is refused as one, whatever O_DIRECT would say to it', (t) => {
  refused(t, 'DISK_KIND', () => openImage('/tmp', { readonly: true, direct: true }));
  refused(t, 'DISK_KIND', () => openImage('/dev/zero', { readonly: true, direct: true }));
});

test('an image whose size is not one of O_DIRECT sectors is refused', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(9);
  // Where the host takes 512 bytes at a time, 4096 is asked for here.
  refused(t, 'DISK_SIZE', () => openImage(path, { readonly: false, direct: true, sectorSize: 4096 }));
  t.is(await lab.close(), 0);
});

/** A device of 4 KiB sectors over the lab's image, or undefined and a word why. */
function device(t: ExecutionContext, path: string): string | undefined {
  try {
    const name = execFileSync('losetup', ['-b', '4096', '--show', '-f', path], { encoding: 'utf8', stdio: 'pipe' }).trim();
    t.teardown(() => execFileSync('losetup', ['-d', name]));
    return name;
  } catch (error) {
    t.log(`skipped: a device with sectors of 4096 bytes (${String((error as Error).message).split('\n')[0]})`);
    t.pass();
    return undefined;
  }
}

test('a device that takes only sectors of 4096 bytes is shown as one, and pieces of pages move right through bounce pages', async (t) => {
  const lab = new BlockLab();
  t.teardown(() => lab.close());
  const path = lab.image(16384);
  const name = device(t, path);
  if (name === undefined) return;
  const expected = lab.read(path);
  const fd = openSync(name, DIRECT);
  t.is(Math.max(...Object.values(alignmentOf(name, fd, true))), 4096);
  t.throws(() => readSync(fd, Buffer.alloc(512), 0, 512, 0));
  closeSync(fd);
  refused(t, 'DISK_SECTOR', () => openImage(name, { readonly: false, direct: true, sectorSize: 512 }));

  const backend = lab.backend(name, { direct: true });
  const front = lab.front();
  await front.connect();
  t.is(front.backendKey('sector-size'), '4096');
  const pages = Array.from({ length: 6 }, () => lab.guest.page());
  const refs = pages.map(({ gfn }) => lab.guest.grant(gfn));
  // Five and three sectors by turns: 24 in all, which are three of the device's.
  const shape = pages.map((_, i) => (i % 2 === 0 ? { ref: refs[i]!, first: 2, last: 6 } : { ref: refs[i]!, first: 5, last: 7 }));
  const send = (op: number, sector: number): Promise<number> => front.send(0, { op, sector: BigInt(sector), segments: shape }, refs);
  for (const sector of [0, 8, 4096, 16384 - 24]) {
    for (const { u8 } of pages) u8.fill(0xee);
    t.is(await send(BlkifOp.READ, sector), 0);
    let at = sector * 512;
    for (const [i, { first, last }] of shape.entries()) {
      const page = Buffer.alloc(4096, 0xee);
      at += expected.copy(page, first * 512, at, at + (last - first + 1) * 512);
      t.true(page.equals(pages[i]!.u8), `page ${i} from sector ${sector}`);
    }
  }
  for (const [i, { u8 }] of pages.entries()) u8.fill(0x40 + i);
  t.is(await send(BlkifOp.WRITE, 800), 0);
  t.is(await front.flush(), 0);
  let at = 800 * 512;
  for (const [i, { first, last }] of shape.entries()) expected.fill(0x40 + i, at, (at += (last - first + 1) * 512));
  // Whole pages go straight.
  t.is(await front.transfer(false, 800, pages.slice(0, 3)), 0);
  for (const [i, { u8 }] of pages.slice(0, 3).entries()) t.true(expected.subarray(800 * 512 + i * 4096).subarray(0, 4096).equals(u8));
  const { bounced, buffer_pages, free_buffer_pages, errors } = backend.stats();
  t.deepEqual([bounced, buffer_pages, free_buffer_pages, errors], [5, 3, 3, 0]);
  t.is(await front.transfer(false, 4, pages.slice(0, 1)), -1);
  for (const ref of refs) t.true(lab.guest.end(ref));
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  await backend.close();
  t.true(expected.equals(lab.read(path)));
});
