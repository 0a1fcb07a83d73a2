import anyTest from 'ava';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { nullDisk } from '../../../../backends/block/target/null-disk.js';
import { BlkifOp, BlkifStatus } from '../../../../shim/abi/io/blkif.js';
import { inMemory } from '../../../../shim/io/inline-file.js';
import { OperatorError } from '../../../../shim/observe/errors.js';
import { exercise } from '../exercise.js';
import { BlockLab } from '../lab.js';
import { pattern } from '../rig.js';

const SECTORS = 8192;
const MEMORY = '/dev/shm';

const inTmpfs = ((): boolean => {
  try {
    const fd = openSync(MEMORY, 'r');
    const found = inMemory(fd);
    closeSync(fd);
    return found;
  } catch {
    return false;
  }
})();
if (!inTmpfs) console.log(`skipped: ${MEMORY} is no tmpfs here`);
const test = inTmpfs ? anyTest : anyTest.skip;

function fileInMemory(): { path: string; remove(): void } {
  const dir = mkdtempSync(join(MEMORY, 'xenshim-test-'));
  const path = join(dir, 'disk.img');
  writeFileSync(path, pattern(SECTORS * 512));
  return { path, remove: () => rmSync(dir, { recursive: true }) };
}

test('random reads and writes of a file in memory keep the data right, over two queues', async (t) => {
  const lab = new BlockLab();
  const { path, remove } = fileInMemory();
  const model = readFileSync(path);
  lab.backend(path, { maxQueues: 2 });
  const front = lab.front(0, { queues: 2, order: 1 });
  await front.connect();
  t.deepEqual(await exercise(front, lab, model, 40, 2), []);
  t.is(await front.flush(), BlkifStatus.OKAY);
  t.deepEqual(front.complaints, []);
  await front.disconnect();
  t.is(await lab.close(), 0);
  t.true(readFileSync(path).equals(model));
  remove();
});

test('a discard of a file in memory gives the pages back and reads as zeros', async (t) => {
  const lab = new BlockLab();
  const { path, remove } = fileInMemory();
  lab.backend(path);
  const front = lab.front();
  await front.connect();
  const before = statSync(path).blocks;
  t.is(await front.send(0, { op: BlkifOp.DISCARD, sector: 8n, sectors: 64n }, []), BlkifStatus.OKAY);
  t.is(statSync(path).blocks, before - 64);
  t.deepEqual(readFileSync(path).subarray(8 * 512, 72 * 512), Buffer.alloc(64 * 512));
  await front.disconnect();
  t.is(await lab.close(), 0);
  remove();
});

test('a file in memory that shrank under the guest answers ERROR, and serves what is left', async (t) => {
  const lab = new BlockLab();
  const { path, remove } = fileInMemory();
  lab.backend(path);
  const front = lab.front();
  await front.connect();
  truncateSync(path, (SECTORS / 2) * 512);
  const page = lab.guest.page();
  t.is(await front.transfer(false, SECTORS - 8, [page]), BlkifStatus.ERROR);
  t.is(await front.transfer(false, 8, [page]), BlkifStatus.OKAY);
  t.true(pattern(SECTORS * 512).subarray(8 * 512, 16 * 512).equals(page.u8));
  await front.disconnect();
  t.is(await lab.close(), 0);
  remove();
});

anyTest('a disk without a disk answers every request and leaves the guest’s pages alone', async (t) => {
  const lab = new BlockLab();
  const image = nullDisk('null:1G', { readonly: false })!;
  lab.backend('null:1G', { image });
  const front = lab.front();
  await front.connect();
  t.is(front.backendKey('sectors'), String(2 ** 21));
  const page = lab.guest.page();
  page.u8.fill(0x5a);
  t.is(await front.transfer(false, 2 ** 21 - 8, [page]), BlkifStatus.OKAY);
  t.true(page.u8.every((byte) => byte === 0x5a));
  t.is(await front.transfer(true, 0, [page]), BlkifStatus.OKAY);
  t.is(await front.transfer(false, 2 ** 21, [page]), BlkifStatus.ERROR);
  t.is(await front.flush(), BlkifStatus.OKAY);
  await front.disconnect();
  t.is(await lab.close(), 0);
});

anyTest('a disk without a disk needs a size', (t) => {
  t.is(nullDisk('disk.img', { readonly: false }), undefined);
  for (const name of ['null:', 'null:0', 'null:10X', 'null:1.5G', 'null:1000']) {
    t.is(t.throws(() => nullDisk(name, { readonly: false }), { instanceOf: OperatorError })?.code, 'DISK_SIZE', name);
  }
});
