import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';

import { blockControl } from '../../../cli/run/block-control.js';
import { BlockDevices, type BlockStatus } from '../../../cli/run/block-devices.js';
import { parseDisk } from '../../../cli/run/disk-option.js';
import { openDisk, placed } from '../../../cli/run/disk-part.js';
import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import type { Log } from '../../../shim/observe/log.js';
import { BlockLab } from '../../backends/block/lab.js';
import { refusedLater } from '../refused.js';

const silent: Log = { trace: () => {}, debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => silent };

/** The disks of a guest that has found Xen, one disk at the start, and what the control socket would call. */
interface Running {
  readonly lab: BlockLab;
  readonly devices: BlockDevices;
  readonly ask: (command: string, args?: object) => Promise<unknown>;
}

async function guest(...texts: string[]): Promise<Running> {
  const lab = new BlockLab();
  const parts = await Promise.all(placed(texts.map((text) => parseDisk(`${lab.image(2048, 'first.img')}${text}`)))
    .map((option) => openDisk(option, option.vdev, false, silent)));
  const devices = new BlockDevices(parts, (option, vdev) => openDisk(option, vdev, false, silent), silent);
  devices.start(() => ({ store: lab.store, ports: lab.ports, handles: lab.guest.handles, domid: 1, log: silent }));
  const handlers = blockControl(devices);
  return { lab, devices, ask: async (command, args = {}) => handlers[`block-${command}`]!({ ...args }) };
}

async function end({ lab, devices }: Pick<Running, 'lab' | 'devices'>): Promise<number> {
  await devices.close();
  return lab.close();
}

const rows = async (ask: Running['ask']): Promise<string[]> =>
  ((await ask('list')) as BlockStatus[]).map(({ vdev, mode, type, sectorSize, state }) => `${vdev} ${mode} ${type} ${sectorSize} ${state}`);

test('a disk that is attached takes the first free name, works, and is gone after an orderly detach', async (t) => {
  const { lab, devices, ask } = await guest('');
  lab.image(2048, 'second.img');
  t.is(await ask('attach', { disk: 'second.img,ro', cwd: lab.dir }), 'xvdb');
  t.deepEqual(await rows(ask), ['xvda w disk 512 InitWait', 'xvdb r disk 512 InitWait']);
  const front = lab.front(1);
  await front.connect();
  t.is(await front.transfer(false, 0, [lab.guest.page()]), 0);
  t.deepEqual(await rows(ask), ['xvda w disk 512 InitWait', 'xvdb r disk 512 Connected']);
  const detached = ask('detach', { vdev: 'xvdb' });
  await front.waitBackend(XenbusState.Closing);
  front.setState(XenbusState.Closed);
  await detached;
  front.takeBack();
  t.deepEqual(front.complaints, []);
  t.deepEqual(await rows(ask), ['xvda w disk 512 InitWait']);
  // Its lock is gone, too, and its name free again.
  t.is(await ask('attach', { disk: 'second.img', cwd: lab.dir, as: 'xvdb' }), 'xvdb');
  t.is(await end({ lab, devices }), 0);
});

test.serial('what cannot be attached is refused with a code, and leaves nothing', async (t) => {
  const { lab, devices, ask } = await guest('');
  const cwd = lab.dir;
  lab.image(2049, 'odd.img');
  // Its worker has opened all that it opens.
  const first = lab.front();
  await first.connect();
  await first.disconnect();
  const fds = lab.openFds();
  for (const [code, args] of [
    ['VDEV_USED', { disk: 'odd.img', as: 'xvda' }],
    ['DISK_LOCKED', { disk: 'first.img' }],
    ['DISK_MISSING', { disk: 'none.img' }],
    ['DISK_SIZE', { disk: 'odd.img,sector-size=4096' }],
    ['USAGE', { disk: 'odd.img,rw' }],
    ['USAGE', { disk: 'odd.img', as: 'xvdb1' }],
    ['BAD_REQUEST', {}],
  ] as const) {
    await refusedLater(t, code, () => ask('attach', { cwd, ...args }));
  }
  for (const command of ['detach', 'resize']) {
    t.regex(await refusedLater(t, 'BLOCK_UNKNOWN', () => ask(command, { vdev: 'xvdz' })), /xvda/);
  }
  t.is(lab.openFds(), fds);
  t.deepEqual(await rows(ask), ['xvda w disk 512 Closed']);
  t.is(await end({ lab, devices }), 0);
});

test('before the guest has found Xen there are disks to list and nothing to attach to', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(2048);
  const option = parseDisk(path);
  const [vdev] = placed([option]).map((each) => each.vdev);
  const devices = new BlockDevices([await openDisk(option, vdev!, false, silent)], (each, as) => openDisk(each, as, false, silent), silent);
  const ask = blockControl(devices);
  t.like((ask['block-list']!({}) as BlockStatus[])[0], { vdev: 'xvda', state: 'Unknown' });
  await refusedLater(t, 'NOT_UP', async () => ask['block-attach']!({ disk: lab.image(8, 'b.img'), cwd: '/' }));
  await refusedLater(t, 'NOT_UP', async () => ask['block-resize']!({ vdev: 'xvda' }));
  await refusedLater(t, 'NOT_UP', async () => ask['block-detach']!({ vdev: 'xvda' }));
  t.is(await lab.close(), 0);
});

test('a size may be what is to be added, and the size the file has by now', async (t) => {
  const { lab, devices, ask } = await guest('');
  await refusedLater(t, 'BLOCK_NOT_CONNECTED', () => ask('resize', { vdev: 'xvda' }));
  const front = lab.front();
  await front.connect();
  t.is(await ask('resize', { vdev: 'xvda', bytes: 2 ** 20, relative: true }), 2 ** 21);
  appendFileSync(`${lab.dir}/first.img`, Buffer.alloc(512));
  t.is(await ask('resize', { vdev: '51712' }), 2 ** 21 + 512);
  await refusedLater(t, 'DISK_SMALLER', () => ask('resize', { vdev: 'xvda', bytes: 512 }));
  t.is(await ask('resize', { vdev: 'xvda', bytes: 512, shrink: true }), 512);
  t.is(front.backendKey('sectors'), '1');
  await front.disconnect();
  t.is(await end({ lab, devices }), 0);
});

test('a disk without a driver stays through an orderly detach of ten seconds, and leaves at once by force', async (t) => {
  const { lab, devices, ask } = await guest('');
  t.regex(await refusedLater(t, 'BLOCK_IN_USE', () => ask('detach', { vdev: 'xvda' })), /no driver .* --force/);
  const front = lab.front();
  await ask('detach', { vdev: 'xvda', force: true });
  t.deepEqual(await rows(ask), []);
  t.false(lab.store.exists(front.frontendPath));
  t.is(await end({ lab, devices }), 0);
});

test('after a reset of the machine the guest finds its disks again, but not one it was to give up', async (t) => {
  const { lab, devices, ask } = await guest('', );
  await ask('attach', { disk: lab.image(2048, 'second.img'), cwd: '/' });
  await ask('attach', { disk: lab.image(2048, 'third.img'), cwd: '/' });
  const pending = ask('detach', { vdev: 'xvdb' });
  await devices.letGo();
  await refusedLater(t, 'NOT_UP', () => ask('attach', { disk: lab.image(2048, 'fourth.img'), cwd: '/' }));
  lab.store.remove('/local/domain/1');
  devices.restart();
  await pending;
  t.deepEqual(await rows(ask), ['xvda w disk 512 InitWait', 'xvdc w disk 512 InitWait']);
  const front = lab.front(2);
  await front.connect();
  t.is(await front.transfer(true, 0, [lab.guest.page()]), 0);
  await front.disconnect();
  t.is(await end({ lab, devices }), 0);
});

test('options of a disk reach the frontend', async (t) => {
  const { lab, devices, ask } = await guest(',sector-size=4096,removable,discard=off,queues=2,vdev=hda');
  const path = '/local/domain/0/backend/vbd/1/768';
  const key = (name: string): string | undefined => lab.store.read(`${path}/${name}`);
  t.deepEqual(['dev', 'removable', 'multi-queue-max-queues'].map(key), ['hda', '1', '2']);
  lab.store.write('/local/domain/1/device/vbd/768/ring-ref', 'x');
  t.deepEqual(await rows(ask), ['hda w disk 4096 InitWait']);
  await ask('attach', { disk: `${lab.image(2048, 'cd.iso')},cdrom,sector-size=4096`, cwd: '/', as: 'xvdd' });
  const cd = lab.front(3);
  await cd.connect();
  t.deepEqual(['info', 'sector-size', 'physical-sector-size', 'mode'].map((name) => cd.backendKey(name)), ['7', '4096', '4096', 'r']);
  t.is(await cd.transfer(false, 8, [lab.guest.page()]), 0);
  t.is(await cd.transfer(false, 4, [lab.guest.page()]), -1);
  await cd.disconnect();
  await sleep(0);
  t.is(await end({ lab, devices }), 0);
});

test.serial('disks that come and go ten times, connected and in the middle of requests, leave nothing behind', async (t) => {
  const { lab, devices, ask } = await guest('');
  const disk = lab.image(4096, 'second.img');
  const page = lab.guest.page();
  const round = async (force: boolean): Promise<void> => {
    await ask('attach', { disk, cwd: '/' });
    const front = lab.front(1);
    await front.connect();
    const answers = Array.from({ length: 8 }, (_, i) => front.transfer(true, i * 8, [page]));
    // Forced out, a request that was not taken yet gets no answer.
    if (!force) await Promise.all(answers);
    const detached = ask('detach', { vdev: 'xvdb', force });
    if (!force) {
      await front.waitBackend(XenbusState.Closing);
      front.setState(XenbusState.Closed);
    }
    await detached;
    front.takeBack();
    t.deepEqual(front.complaints.filter((line) => !line.endsWith('never answered')), []);
  };
  const fds: number[] = [];
  for (let i = 0; i < 10; i++) {
    await round(i % 2 === 1);
    fds.push(lab.openFds());
  }
  // What tests before this one had open may close meanwhile, so fewer is no surprise.
  t.true(fds.at(-1)! <= Math.min(...fds.slice(2, 5)), fds.join());
  t.is(lab.ports.bound, 0);
  t.deepEqual(await rows(ask), ['xvda w disk 512 InitWait']);
  t.deepEqual(lab.store.list('/local/domain/0/backend/vbd/1'), ['51712']);
  t.is(await end({ lab, devices }), 0);
});
