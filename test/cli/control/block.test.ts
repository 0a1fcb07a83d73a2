import test from 'ava';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { block } from '../../../cli/control/block.js';
import { serveControl } from '../../../cli/control/server.js';
import { makeRunDir } from '../../../cli/run-dir.js';
import type { BlockStatus } from '../../../cli/run/block-devices.js';
import { refusedLater } from '../refused.js';

const root = mkdtempSync(join(tmpdir(), 'xenshim-block-cmd-'));
process.env['XENSHIM_RUNDIR'] = root;
test.after.always(() => rmSync(root, { recursive: true }));

const disk: BlockStatus = {
  vdev: 'xvda', number: 51712, file: '/a.img', size: 10 * 2 ** 30, sectorSize: 512, mode: 'w', type: 'disk',
  state: 'Connected', frontend: 'Connected',
};

test.serial('each verb asks the guest for just what was said, and prints what came of it', async (t) => {
  const asked: unknown[] = [];
  const note = (command: string, answer: unknown) => (args: object): unknown => {
    asked.push([command, args]);
    return answer;
  };
  const server = await serveControl(makeRunDir('web').control, 'web', {
    'block-list': note('list', [disk]),
    'block-attach': note('attach', 'xvdc'),
    'block-detach': note('detach', undefined),
    'block-resize': note('resize', 11 * 2 ** 30),
  });
  const { stdout } = process;
  const write = stdout.write.bind(stdout);
  let out = '';
  stdout.write = (chunk: string | Uint8Array) => {
    out += String(chunk);
    return true;
  };
  try {
    for (const line of [
      'list web', 'attach web b.img,ro', 'attach web b.img --as xvdc', 'detach web xvdb', 'detach --force web xvdb',
      'resize web xvda 10G', 'resize web xvda +1G', 'resize web xvda 1M --shrink', 'resize --refresh web xvda',
    ]) {
      t.is(await block(line.split(' ')), 0);
    }
  } finally {
    stdout.write = write;
    await server.close();
  }
  const cwd = process.cwd();
  const sized = (bytes: number, relative = false, shrink = false): unknown => ['resize', { vdev: 'xvda', shrink, bytes, relative }];
  t.deepEqual(asked, [
    ['list', {}],
    ['attach', { disk: 'b.img,ro', cwd }],
    ['attach', { disk: 'b.img', cwd, as: 'xvdc' }],
    ['detach', { vdev: 'xvdb', force: false }],
    ['detach', { vdev: 'xvdb', force: true }],
    sized(10 * 2 ** 30),
    sized(2 ** 30, true),
    sized(2 ** 20, false, true),
    ['resize', { vdev: 'xvda', shrink: false }],
  ]);
  t.deepEqual(out.split('\n').map((line) => line.trim().split(/\s+/)), [
    ['Vdev', 'Size', 'Mode', 'State', 'File'],
    ['xvda', '10', 'GiB', 'w', 'Connected', '/a.img'],
    ['xvdc'], ['xvdc'],
    ...new Array<string[]>(4).fill(['xvda', 'has', '11', 'GiB']),
    [''],
  ]);
});

test.serial('a slip of the pen is refused before any guest is asked', async (t) => {
  for (const line of [
    '', 'lst web', 'list', 'list web x', 'attach web', 'attach web b.img,rw', 'attach web b.img --as sdz', 'detach web',
    'resize web xvda', 'resize web xvda ten', 'resize web xvda 10G --refresh', 'detach --now web xvda',
  ]) {
    await refusedLater(t, 'USAGE', () => block(line.split(' ')));
  }
  await refusedLater(t, 'NO_GUEST', () => block(['list', 'nobody']));
});
