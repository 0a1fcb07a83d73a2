import test from 'ava';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { block } from '../../../cli/control/block.js';
import type { BlockStat } from '../../../cli/control/block-stat.js';
import { serveControl } from '../../../cli/control/server.js';
import { blockControl } from '../../../cli/run/block-control.js';
import { BlockDevices } from '../../../cli/run/block-devices.js';
import { parseDisk } from '../../../cli/run/disk-option.js';
import { openDisk, placed } from '../../../cli/run/disk-part.js';
import { makeRunDir } from '../../../cli/run-dir.js';
import { silentLog } from '../../../shim/observe/log.js';
import { BlockLab } from '../../backends/block/lab.js';
import { refusedLater } from '../refused.js';

const root = mkdtempSync(join(tmpdir(), 'xenshim-block-stat-'));
process.env['XENSHIM_RUNDIR'] = root;
test.after.always(() => rmSync(root, { recursive: true }));

/** What a command prints. */
async function printed(words: string): Promise<string> {
  const { stdout } = process;
  const write = stdout.write.bind(stdout);
  let out = '';
  stdout.write = (chunk: string | Uint8Array) => {
    out += String(chunk);
    return true;
  };
  try {
    await block(words.split(' '));
    return out;
  } finally {
    stdout.write = write;
  }
}

test.serial('counts, latencies and gauges of disks in use are those of what the guest did; a setting is taken at once', async (t) => {
  const lab = new BlockLab();
  const options = [`${lab.image(2048, 'a.img')},persistent,queues=2`, lab.image(2048, 'b.img')].map(parseDisk);
  const parts = await Promise.all(placed(options).map((option) => openDisk(option, option.vdev, false, silentLog)));
  const devices = new BlockDevices(parts, (option, vdev) => openDisk(option, vdev, false, silentLog), silentLog);
  const server = await serveControl(makeRunDir('web').control, 'web', blockControl(devices));
  await refusedLater(t, 'NOT_UP', () => block(['stat', 'web']));
  devices.start(() => ({ store: lab.store, ports: lab.ports, handles: lab.guest.handles, domid: 1, log: silentLog }));
  const front = lab.front(0, { queues: 2, persistent: true });
  await front.connect();
  const pages = Array.from({ length: 3 }, () => lab.guest.page());
  for (let i = 0; i < 10; i++) await front.transfer(i >= 6, 8 * i, pages, i % 2);
  await front.flush(1);

  const disks = JSON.parse(await printed('stat web --json')) as BlockStat[];
  t.deepEqual(disks.map(({ vdev }) => vdev), ['xvda', 'xvdb']);
  const { total, latency, queues, maxBufferPages } = disks[0]!;
  t.like(total, { rd_req: 6, wr_req: 4, f_req: 1, ds_req: 0, oo_req: 0, rd_sect: 6 * 24, wr_sect: 4 * 24, errors: 0, persistent_in_use: 0 });
  t.true(total.persistent >= 3 && total.persistent <= 6);
  t.like(queues[0], { rd_req: 3, wr_req: 2, f_req: 0 });
  t.like(queues[1], { rd_req: 3, wr_req: 2, f_req: 1 });
  t.deepEqual([latency.read.count, latency.write.count, latency.flush.count, latency.discard.count], [6, 4, 1, 0]);
  for (const { count, p50, p99, max, histogram } of [latency.read, latency.write, latency.flush]) {
    t.true(0 < p50 && p50 <= p99 && p99 <= max);
    t.is(histogram.reduce((sum, [, each]) => sum + each, 0), count);
  }
  t.is(maxBufferPages, 1024);
  t.is(disks[1]!.total.rd_req, 0);

  const text = await printed('stat web xvda');
  t.regex(text, /^xvda\n {2}requests +rd 6 {2}wr 4 {2}f 1 /);
  t.regex(text, /\n {2}read +count 6 {2}p50 <= \d+ µs/);
  t.regex(text, /\n {2}queue 1 +rd 3 {2}wr 2 {2}f 1/);

  await block('set web xvda max-buffer-pages 0'.split(' '));
  await block('set web xvda max-buffer-pages 2147483648'.split(' '));
  t.is((JSON.parse(await printed('stat web xvda --json')) as BlockStat[])[0]!.maxBufferPages, 2147483648);
  for (const value of ['-1', '2147483649']) {
    t.regex(await refusedLater(t, 'BLOCK_VALUE', () => block(['set', 'web', 'xvda', 'max-buffer-pages', value])), /from 0 to 2147483648/);
  }
  await refusedLater(t, 'BLOCK_UNKNOWN', () => block('set web xvdz max-buffer-pages 1'.split(' ')));
  await refusedLater(t, 'BLOCK_UNKNOWN', () => block('stat web xvdz'.split(' ')));
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  await devices.close();
  await server.close();
  t.is(await lab.close(), 0);
});

test('what cannot be meant is refused before any guest is asked', async (t) => {
  for (const words of [
    'stat', 'stat web xvda x', 'set', 'set web', 'set web xvda', 'set web xvda max-buffer-pages', 'set web xvda colour 1',
    'set web xvda max-buffer-pages ten', 'set web xvda max-buffer-pages 1e9', 'set web xvda max-buffer-pages 1 2',
    'stat --fast web',
  ]) {
    await refusedLater(t, 'USAGE', () => block(words.split(' ')));
  }
});
