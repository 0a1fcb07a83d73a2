import test, { type ExecutionContext } from 'ava';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { list, reboot, shutdown, type GuestStatus } from '../../../cli/control/commands.js';
import { serveControl, type ControlHandlers, type ControlServer } from '../../../cli/control/server.js';
import { xenstore } from '../../../cli/control/xenstore.js';
import { makeRunDir } from '../../../cli/run-dir.js';
import { refusedLater } from '../refused.js';

let root = '';
test.beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'xenshim-cmd-'));
  process.env['XENSHIM_RUNDIR'] = root;
});
test.afterEach.always(() => rmSync(root, { recursive: true }));

async function guest(t: ExecutionContext, name: string, handlers: ControlHandlers): Promise<ControlServer> {
  const server = await serveControl(makeRunDir(name).control, name, handlers);
  t.teardown(() => server.close());
  return server;
}

/** What a command prints. */
async function printed(t: ExecutionContext, run: () => Promise<number>): Promise<string> {
  const { stdout } = process;
  const write = stdout.write.bind(stdout);
  let out = '';
  stdout.write = (chunk: string | Uint8Array) => {
    out += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
    return true;
  };
  try {
    t.is(await run(), 0);
  } finally {
    stdout.write = write;
  }
  return out;
}

const status = (name: string): GuestStatus => ({
  name, domid: 1, pid: 10, qemuPid: 11, vcpus: 2, memory: 2 ** 30, state: 'running',
});

test.serial('list shows the guests that run and passes over folders left behind', async (t) => {
  await guest(t, 'web', { status: () => status('web') });
  makeRunDir('dead');
  const lines = (await printed(t, () => list([]))).trimEnd().split('\n').map((line) => line.split(/\s+/));
  t.deepEqual(lines, [['Name', 'ID', 'Mem/MiB', 'VCPUs', 'State', 'QEMU'], ['web', '1', '1024', '2', 'running', '11']]);
  t.deepEqual(JSON.parse(await printed(t, () => list(['--json']))), [status('web')]);
});

test.serial('list passes over a guest that ends while it is asked', async (t) => {
  const server = await guest(t, 'ending', { status: () => void server.close() });
  await guest(t, 'web', { status: () => status('web') });
  t.deepEqual(JSON.parse(await printed(t, () => list(['--json']))), [status('web')]);
});

test.serial('shutdown asks the guest once, and returns without waiting', async (t) => {
  let asked = 0;
  await guest(t, 'web', { shutdown: () => void asked++ });
  t.is(await shutdown(['web']), 0);
  t.is(asked, 1);
});

test.serial('shutdown --wait returns when the guest is gone', async (t) => {
  let gone = false;
  const server = await guest(t, 'web', {
    shutdown: () => void setTimeout(() => {
      gone = true;
      void server.close();
    }, 150),
  });
  t.is(await shutdown(['--wait', 'web']), 0);
  t.true(gone);
});

test.serial('shutdown --wait gives up after its time, with a status of its own', async (t) => {
  await guest(t, 'deaf', { shutdown: () => undefined });
  await refusedLater(t, 'STILL_RUNNING', () => shutdown(['--wait', '--timeout', '0.2', 'deaf']), 3);
});

test.serial('a time that is no number is refused before the guest is asked', async (t) => {
  await guest(t, 'web', { shutdown: () => t.fail() });
  for (const timeout of ['soon', '', '1s', 'Infinity', 'NaN']) {
    await refusedLater(t, 'USAGE', () => shutdown(['--wait', `--timeout=${timeout}`, 'web']));
  }
});

test.serial('reboot asks the guest and has no --wait', async (t) => {
  let asked = 0;
  await guest(t, 'web', { reboot: () => void asked++ });
  t.is(await reboot(['web']), 0);
  t.is(asked, 1);
  await refusedLater(t, 'USAGE', () => reboot(['--wait', 'web']));
});

test.serial('commands that take a guest take exactly one', async (t) => {
  for (const command of [shutdown, reboot]) {
    await refusedLater(t, 'USAGE', () => command([]));
    await refusedLater(t, 'USAGE', () => command(['a', 'b']));
    await refusedLater(t, 'NO_GUEST', () => command(['a']));
  }
  await refusedLater(t, 'USAGE', () => list(['--xml']));
});

test.serial('xenstore verbs go to the guest with their path and value, and text that comes back is printed', async (t) => {
  const seen: unknown[] = [];
  const verb = (name: string, answer?: string) => (args: unknown): unknown => (seen.push([name, args]), answer);
  await guest(t, 'web', {
    'xenstore-ls': verb('ls', 'a = "1"'), 'xenstore-read': verb('read', 'value'),
    'xenstore-write': verb('write'), 'xenstore-rm': verb('rm'),
  });
  t.is(await printed(t, () => xenstore(['web', 'ls'])), 'a = "1"\n');
  t.is(await printed(t, () => xenstore(['web', 'read', '/a'])), 'value\n');
  t.is(await printed(t, () => xenstore(['web', 'write', '/a', ''])), '');
  t.is(await printed(t, () => xenstore(['web', 'rm', '/a'])), '');
  t.deepEqual(seen.map((each) => JSON.parse(JSON.stringify(each)) as unknown), [
    ['ls', { path: '/' }], ['read', { path: '/a' }], ['write', { path: '/a', value: '' }], ['rm', { path: '/a' }],
  ]);
});

test.serial('xenstore without a verb, with an unknown one, or with the wrong number of words is refused', async (t) => {
  for (const argv of [[], ['web'], ['web', 'chmod', '/a'], ['web', 'read'], ['web', 'write', '/a'], ['web', 'rm', '/', 'x'],
    ['web', 'toString', '/a']]) {
    await refusedLater(t, 'USAGE', () => xenstore(argv));
  }
});
