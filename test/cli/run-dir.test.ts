import test from 'ava';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { makeRunDir, removeRunDir, runDir, runningNames, runRoot } from '../../cli/run-dir.js';
import { refused } from './refused.js';

let root = '';

test.beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'xenshim-dir-'));
  process.env['XENSHIM_RUNDIR'] = root;
});

test.afterEach.always(() => rmSync(root, { recursive: true, force: true }));

test.serial('the folder is made for its owner alone, with the folders above it, and goes away with its sockets', (t) => {
  process.env['XENSHIM_RUNDIR'] = join(root, 'deep', 'er');
  const dir = makeRunDir('web-1');
  t.is(dir.path, join(root, 'deep/er/web-1'));
  t.is(statSync(dir.path).mode & 0o777, 0o700);
  for (const socket of [dir.control, dir.xenstore, dir.console]) writeFileSync(socket, '');
  t.is(new Set([dir.control, dir.xenstore, dir.console]).size, 3);
  removeRunDir(dir);
  t.false(existsSync(dir.path));
  t.notThrows(() => removeRunDir(dir));
});

test.serial('a folder left behind is used again', (t) => {
  t.deepEqual(makeRunDir('a'), makeRunDir('a'));
});

test.serial('names come sorted, and there are none before the first guest', (t) => {
  t.deepEqual(runningNames(), []);
  for (const name of ['b', 'a', 'c']) makeRunDir(name);
  t.deepEqual(runningNames(), ['a', 'b', 'c']);
  process.env['XENSHIM_RUNDIR'] = join(root, 'nowhere');
  t.deepEqual(runningNames(), []);
});

test.serial('a folder that cannot be made is refused with the way out', (t) => {
  writeFileSync(join(root, 'file'), '');
  t.regex(refused(t, 'RUN_DIR', () => makeRunDir('file')), /XENSHIM_RUNDIR/);
  process.env['XENSHIM_RUNDIR'] = join(root, 'file');
  t.regex(refused(t, 'RUN_DIR', () => makeRunDir('a')), /ENOTDIR/);
});

test.serial('a folder whose sockets could not be bound because of their length is refused before anything is made', (t) => {
  const long = join(root, 'x'.repeat(60));
  mkdirSync(long);
  process.env['XENSHIM_RUNDIR'] = long;
  refused(t, 'RUN_DIR', () => makeRunDir('y'.repeat(64)));
  t.deepEqual(runningNames(), []);
});

test.serial('without XENSHIM_RUNDIR root has /run/xenshim, and others their own run-time folder', (t) => {
  delete process.env['XENSHIM_RUNDIR'];
  process.env['XDG_RUNTIME_DIR'] = '/run/user/77';
  t.is(runRoot(), process.getuid!() === 0 ? '/run/xenshim' : '/run/user/77/xenshim');
  process.env['XENSHIM_RUNDIR'] = '';
  t.is(runRoot(), process.getuid!() === 0 ? '/run/xenshim' : '/run/user/77/xenshim');
  process.env['XENSHIM_RUNDIR'] = '/x';
  t.is(runDir('g').control, '/x/g/control.sock');
});
