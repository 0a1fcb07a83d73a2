import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';

import { openDisk } from '../../../../backends/block/target/open-disk.js';
import type { DiskOptions } from '../../../../backends/block/target/open-disk.js';
import { BlkifStatus } from '../../../../shim/abi/io/blkif.js';
import { OperatorError } from '../../../../shim/observe/errors.js';
import type { GuestPage } from '../../../helpers/fake-frontend-guest.js';
import { exercise } from '../exercise.js';
import { BlockLab } from '../lab.js';
import { daemonsOf, gone, rawContent, storageDaemon, toImage } from './storage.js';

const SECTORS = 32768;
const withDaemon = storageDaemon(test);

const options = (lab: BlockLab, more: Partial<DiskOptions> = {}): DiskOptions =>
  ({ readonly: false, queues: 2, log: lab.log, ...more });

withDaemon.serial('a storage daemon killed in the middle of writes costs a pause: every byte acknowledged is in the image', async (t) => {
  const lab = new BlockLab();
  const raw = lab.image(SECTORS);
  const model = lab.read(raw);
  const path = toImage(raw, 'qcow2', `${raw}.qcow2`);
  const image = await openDisk(path, options(lab));
  const backend = lab.backend(path, { image, maxQueues: 2 });
  const front = lab.front(0, { queues: 2, order: 2 });
  await front.connect();
  // From here on the worker has a connection that can be lost.
  t.deepEqual(await exercise(front, lab, model, 1, 2), []);
  const back = (): number => lab.messages.filter((line) => /daemon is back/.test(line)).length;
  let running = true;
  const killer = (async () => {
    for (let kill = 0; kill < 3; kill++) {
      await sleep(20 + 37 * kill);
      for (const pid of daemonsOf(lab.dir)) process.kill(pid, 'SIGKILL');
      while (back() === kill && running) await sleep(5);
    }
  })();
  // More rounds until all three have happened.
  const wrong: string[] = [];
  while (back() < 3 && wrong.length === 0) wrong.push(...(await exercise(front, lab, model, 10, 2)));
  running = false;
  await killer;
  t.deepEqual(wrong, []);
  t.is(lab.messages.filter((line) => /ended \(SIGKILL\)/.test(line)).length, 3);
  t.is(await front.flush(), 0);
  t.deepEqual(front.complaints, []);
  await front.disconnect();
  await backend.close();
  t.true(rawContent(path, 'qcow2').equals(model));
  t.is(await lab.close(), 0);
});

withDaemon.serial('what a flush acknowledged is in the image when the daemon is killed and never comes back', async (t) => {
  const lab = new BlockLab();
  const path = toImage(lab.image(SECTORS), 'qcow2', join(lab.dir, 'a.qcow2'));
  const image = await openDisk(path, options(lab));
  const backend = lab.backend(path, { image });
  const front = lab.front();
  await front.connect();
  const page = lab.guest.page();
  const flushed: number[] = [];
  let written = 0;
  const writes = (async () => {
    for (;; written++) {
      page.u8.fill(1 + (written % 255));
      if ((await front.transfer(true, written * 8, [page])) !== 0) return;
      if ((await front.flush()) !== 0) return;
      flushed.push(written);
    }
  })();
  while (flushed.length < 40) await sleep(5);
  for (const pid of daemonsOf(lab.dir)) process.kill(pid, 'SIGKILL');
  const acknowledged = [...flushed];
  // The image as the dead daemon left it.
  const content = rawContent(path, 'qcow2');
  for (const at of acknowledged) {
    t.true(content.subarray(at * 4096, (at + 1) * 4096).every((byte) => byte === 1 + (at % 255)), `flush ${at}`);
  }
  await backend.letGo();
  await Promise.race([writes, sleep(100)]);
  t.is(await lab.close(), 0);
});

withDaemon.serial('an error of the target fails that request alone', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(2048);
  const inject = (event: string, sector: number): object => ({ event, sector, errno: 5, once: false, immediately: true });
  const node = {
    driver: 'blkdebug',
    image: { driver: 'file', filename: path },
    'inject-error': [
      { ...inject('none', 800), iotype: 'read' },
      { ...inject('none', 808), iotype: 'write', errno: 28 },
      { event: 'none', iotype: 'flush', errno: 5, once: true },
    ],
  };
  const image = await openDisk(`json:${JSON.stringify(node)}`, options(lab));
  lab.backend('blkdebug', { image });
  const front = lab.front();
  await front.connect();
  const page = lab.guest.page();
  const transfer = (write: boolean, sector: number): Promise<number> => front.transfer(write, sector, [page]);
  t.deepEqual(await Promise.all([transfer(false, 792), transfer(false, 800), transfer(false, 816)]),
    [BlkifStatus.OKAY, BlkifStatus.ERROR, BlkifStatus.OKAY]);
  t.deepEqual(await Promise.all([transfer(true, 792), transfer(true, 808), transfer(true, 816)]),
    [BlkifStatus.OKAY, BlkifStatus.ERROR, BlkifStatus.OKAY]);
  t.is(await front.flush(), BlkifStatus.ERROR);
  t.is(await front.flush(), BlkifStatus.OKAY);
  t.deepEqual(front.complaints, []);
  await front.disconnect();
  t.is(await lab.close(), 0);
});

/** A server of an image, on a socket in the lab's folder. */
async function nbdServer(lab: BlockLab, image: string): Promise<{ uri: string; stop: () => Promise<void> }> {
  const socket = join(lab.dir, 'nbd.sock');
  const pidFile = join(lab.dir, 'nbd.pid');
  const child = spawn('qemu-nbd', ['-t', '-f', 'raw', '-k', socket, '--pid-file', pidFile, image], { stdio: 'ignore' });
  while (!existsSync(pidFile) || readFileSync(pidFile).length === 0) await sleep(10);
  return {
    uri: `nbd+unix:///?socket=${socket}`,
    stop: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
      rmSync(pidFile);
    },
  };
}

withDaemon.serial('an NBD server that goes and comes back is a pause', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(SECTORS);
  const model = lab.read(path);
  let server = await nbdServer(lab, path);
  const image = await openDisk(server.uri, options(lab));
  const backend = lab.backend(server.uri, { image, maxQueues: 2 });
  const front = lab.front(0, { queues: 2, order: 1 });
  await front.connect();
  t.deepEqual(await exercise(front, lab, model, 20, 2), []);
  await server.stop();
  let answered = false;
  const page = lab.guest.page();
  const waiting = front.transfer(false, 0, [page]).then((status) => {
    answered = true;
    return status;
  });
  await sleep(300);
  t.false(answered);
  server = await nbdServer(lab, path);
  t.is(await waiting, 0);
  t.true(model.subarray(0, 4096).equals(page.u8));
  t.deepEqual(await exercise(front, lab, model, 20, 2), []);
  t.is(await front.flush(), 0);
  t.deepEqual(front.complaints, []);
  await front.disconnect();
  await backend.close();
  await server.stop();
  t.true(lab.read(path).equals(model));
  t.is(await lab.close(), 0);
});

withDaemon.serial('a disk whose server is gone for good does not keep the guest from being reset', async (t) => {
  const lab = new BlockLab();
  const server = await nbdServer(lab, lab.image(2048));
  const image = await openDisk(server.uri, options(lab));
  const backend = lab.backend(server.uri, { image });
  const front = lab.front();
  await front.connect();
  await server.stop();
  const pages: GuestPage[] = [lab.guest.page(), lab.guest.page()];
  const answers = Promise.all(pages.map((page, i) => front.transfer(false, i * 8, [page])));
  await sleep(100);
  await backend.letGo();
  front.takeBack();
  t.deepEqual(await answers, [BlkifStatus.ERROR, BlkifStatus.ERROR]);
  t.is(lab.guest.stats().pinnedRefs, 0);
  t.is(await lab.close(), 0);
});

withDaemon.serial('a discard gives the image space back, and a long one is cut into pieces the daemon takes', async (t) => {
  const lab = new BlockLab();
  const sectors = 131072;
  const path = toImage(lab.image(sectors), 'qcow2', join(lab.dir, 'a.qcow2'));
  const image = await openDisk(path, options(lab));
  t.is(image.target.discardGranularity, 65536);
  const backend = lab.backend(path, { image });
  const front = lab.front();
  await front.connect();
  t.is(front.backendKey('discard-granularity'), '65536');
  t.is(await front.discard(128, sectors - 256), 0);
  const page = lab.guest.page();
  t.is(await front.transfer(false, 65536, [page]), 0);
  t.true(page.u8.every((byte) => byte === 0));
  await front.disconnect();
  await backend.close();
  t.true(rawContent(path, 'qcow2').subarray(65536, (sectors - 128) * 512).every((byte) => byte === 0));
  t.is(await lab.close(), 0);
});

withDaemon.serial('a readonly disk refuses writes, and its image may be one nobody can write', async (t) => {
  const lab = new BlockLab();
  const path = toImage(lab.image(2048), 'vmdk', join(lab.dir, 'a.vmdk'));
  const image = await openDisk(path, options(lab, { readonly: true }));
  t.true(image.target.readonly);
  t.is(image.target.discardGranularity, undefined);
  lab.backend(path, { image, readonly: true });
  const front = lab.front();
  await front.connect();
  const page = lab.guest.page();
  t.is(await front.transfer(false, 0, [page]), BlkifStatus.OKAY);
  t.is(await front.transfer(true, 0, [page]), BlkifStatus.ERROR);
  await front.disconnect();
  t.is(await lab.close(), 0);
});

withDaemon.serial('a disk behind a daemon takes another size', async (t) => {
  const lab = new BlockLab();
  const path = toImage(lab.image(2048), 'qcow2', join(lab.dir, 'a.qcow2'));
  const image = await openDisk(path, options(lab));
  const backend = lab.backend(path, { image });
  const front = lab.front();
  await front.connect();
  const page = lab.guest.page();
  t.is(await front.transfer(true, 4088, [page]), BlkifStatus.ERROR);
  t.is(await backend.resize({ bytes: 4096 * 512, shrink: false }), 4096 * 512);
  t.is(front.backendKey('sectors'), '4096');
  t.is(await front.transfer(true, 4088, [page]), BlkifStatus.OKAY);
  await front.disconnect();
  t.is(await lab.close(), 0);
});

withDaemon.serial('what cannot be opened is refused in one line, and no daemon is left', async (t) => {
  const lab = new BlockLab();
  const raw = lab.image(2048, 'odd.qcow2');
  const cases: [string, string][] = [
    [raw, 'DISK_STORAGE'],
    [join(lab.dir, 'none.qcow2'), 'DISK_MISSING'],
    ['nbd+unix:///?socket=/nowhere', 'DISK_STORAGE'],
    ['nbd+unix:///', 'DISK_URI'],
    ['gopher://host/disk', 'DISK_URI'],
    ['json:{"driver":"nonsense"}', 'DISK_STORAGE'],
    ['json:{', 'DISK_URI'],
  ];
  const fds = lab.openFds();
  for (const [name, code] of cases) {
    const error = await t.throwsAsync(openDisk(name, options(lab)), { instanceOf: OperatorError }, name);
    t.is(error?.code, code, error?.line);
    t.notRegex(error?.line ?? '', /\n|--blockdev/);
  }
  t.is(lab.openFds(), fds);
  t.deepEqual(daemonsOf(lab.dir), []);
  t.is(await lab.close(), 0);
});

withDaemon.serial('an image in use by another is DISK_LOCKED', async (t) => {
  const lab = new BlockLab();
  const path = toImage(lab.image(2048), 'qcow2', join(lab.dir, 'a.qcow2'));
  const image = await openDisk(path, options(lab));
  const error = await t.throwsAsync(openDisk(path, options(lab)), { instanceOf: OperatorError });
  t.is(error?.code, 'DISK_LOCKED');
  await image.close();
  await (await openDisk(path, options(lab))).close();
  t.is(await lab.close(), 0);
});

withDaemon.serial('without the program the line that installs it is told', async (t) => {
  const lab = new BlockLab();
  const path = toImage(lab.image(2048), 'qcow2', join(lab.dir, 'a.qcow2'));
  const before = process.env['PATH'];
  process.env['PATH'] = '/nowhere';
  const error = await t.throwsAsync(openDisk(path, options(lab)), { instanceOf: OperatorError });
  process.env['PATH'] = before;
  t.is(error?.code, 'NO_STORAGE_DAEMON');
  t.regex(error?.line ?? '', /apt-get install .*qemu-utils/);
  t.is(error?.exitStatus, 3);
  t.is(await lab.close(), 0);
});

test('a raw image that looks like a container is refused, unless it was said to be raw', async (t) => {
  const lab = new BlockLab();
  for (const [name, at, text] of [
    ['q.img', 0, 'QFI\xfb'],
    ['m.img', 0, 'KDMV'],
    ['v.raw', 0, 'conectix'],
    ['d.img', 0x40, '\x7f\x10\xda\xbe'],
    ['x.img', 0, 'vhdxfile'],
  ] as const) {
    const path = lab.image(2048, name);
    const content = lab.read(path);
    content.write(text, at, 'latin1');
    writeFileSync(path, content);
    const error = await t.throwsAsync(openDisk(path, options(lab)), { instanceOf: OperatorError });
    t.is(error?.code, 'DISK_FORMAT');
    const image = await openDisk(path, options(lab, { format: 'raw' }));
    t.is(image.target.sectors, 2048);
    await image.close();
  }
  t.is(await lab.close(), 0);
});

withDaemon.serial('the daemon ends with the process that started it, however that ends', async (t) => {
  const lab = new BlockLab();
  const path = toImage(lab.image(2048), 'qcow2', join(lab.dir, 'a.qcow2'));
  const script = new URL('hold-disk.js', import.meta.url);
  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT'] as const) {
    const child = spawn(process.execPath, [script.pathname, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    await Promise.race([once(child.stdout, 'data'), once(child.stdout, 'end')]);
    t.is(child.exitCode, null, `${signal}: the disk did not open`);
    const [daemon] = daemonsOf(lab.dir);
    t.not(daemon, undefined);
    child.kill(signal);
    await once(child, 'exit');
    t.true(await gone(daemon!), signal);
  }
  t.is(await lab.close(), 0);
});
