import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';

import { parseDisk } from '../../../cli/run/disk-option.js';
import { openDisk, type DiskPart } from '../../../cli/run/disk-part.js';
import { daemonsOf, storageDaemon } from '../../backends/block/target/storage.js';
import { silentLog } from '../../../shim/observe/log.js';

test('a disk takes the number of queues per thread that all have, unless it has its own', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-workers-'));
  const file = join(dir, 'a.img');
  writeFileSync(file, Buffer.alloc(4096));
  const wanted = async (text: string, all?: number): Promise<number | undefined> => {
    const part = await open(text, all);
    await part.image.close();
    return part.option.queuesPerWorker;
  };
  t.is(await wanted(file), undefined);
  t.is(await wanted(file, 2), 2);
  t.is(await wanted(`${file},queues-per-worker=1`, 2), 1);
  rmSync(dir, { recursive: true });
});

storageDaemon(test)('a disk behind a storage daemon has one thread, and is refused if it shall have several', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-workers-'));
  const file = join(dir, 'a.qcow2');
  spawnSync('qemu-img', ['create', '-f', 'qcow2', file, '1M']);
  const part = await open(file, 1);
  t.is(part.option.queuesPerWorker, undefined);
  await part.image.close();
  await t.throwsAsync(open(`${file},queues-per-worker=1`), { code: 'DISK_WORKERS' });
  t.deepEqual(daemonsOf(dir), []);
  rmSync(dir, { recursive: true });
});

const open = (text: string, all?: number): Promise<DiskPart> =>
  openDisk(parseDisk(text), { name: 'xvda', number: 51712 }, false, silentLog, all);
