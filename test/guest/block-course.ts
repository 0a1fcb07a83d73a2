/**
 * A guest that uses its disks in every way there is: each step does something in the guest or with `xenshim block`, and
 * looks at what came of it from inside the guest, on the host, or both.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BlockStat } from '../../cli/control/block-stat.js';
import { ask } from '../../cli/control/client.js';
import type { GuestRun } from '../../cli/demo/guest-run.js';
import type { Course } from '../../cli/demo/session.js';
import { check, hashOf, poweroffStep } from '../../cli/demo/steps.js';
import type { BlockStatus } from '../../cli/run/block-devices.js';
import { OperatorError } from '../../shim/observe/errors.js';

const MIB = 2 ** 20;

/** xvdb; it grows to twice its size. */
export const blockDisks = [{ file: 'data.img', bytes: 256 * MIB }] as const;

export const blockSteps = [
  'features', 'data', 'discard', 'resize', 'hotplug', 'kinds', 'persistent', 'rebind', 'example', 'kexec', 'poweroff',
] as const;
export type BlockStep = (typeof blockSteps)[number];

export const blockTitles: Readonly<Record<BlockStep, string>> = {
  features: 'says that indirect descriptors and flushes are on, and has a queue for each vCPU',
  data: 'makes a file system on a second disk, whose files the image holds',
  discard: 'trims it, and the image gives the space back to the host',
  resize: 'is told of a larger disk while it uses it, and grows the file system',
  hotplug: 'gets a disk with sectors of 4096 bytes and loses it again while another one is written to',
  kinds: 'sees a read-only disk, a removable one, and leaves a CD-ROM to itself, which then is taken away by force',
  persistent: 'keeps grants in place for a disk that is offered so, which is opened with O_DIRECT',
  rebind: 'takes its driver off a disk, which then is Closed on both ends, and gets the disk anew',
  example: 'has a disk of the example backend, makes a file system on it and reads back what it wrote',
  kexec: 'starts another kernel with kexec, which finds the disks, the example’s too, and what is on them',
  poweroff: 'powers off, and nothing is left',
};

/** The RAM disk of docs/examples, as a user would have it. */
export const exampleOptions = [
  '--backend', `${fileURLToPath(new URL('../../docs/examples/ramdisk/ramdisk.js', import.meta.url))},vdev=xvdm,mib=64`,
];

/** Shell text that waits up to 30 s. */
const until = (condition: string): string =>
  `n=0; until ${condition}; do n=$((n+1)); [ $n -lt 150 ] || { echo "waited in vain for ${condition.replaceAll('"', "'")}"; break; }; sleep 0.2; done`;

const data = (run: GuestRun): string => join(run.work, 'data.img');

/** Names of the disks as devices of the guest's xenbus. */
const [XVDB, XVDC, XVDD, XVDH] = ['vbd-51728', 'vbd-51744', 'vbd-51760', 'vbd-51824'] as const;

/**
 * The guest has noticed that a device is gone. Linux looks at the store when it gets round to a watch event: a device that
 * is back by then was never away for it, on Xen as well, and a disk without a driver stays without one.
 */
const away = (device: string): string => `[ ! -e /sys/bus/xen/devices/${device} ]`;

/** Bytes the host has allocated for a file. */
const allocated = (path: string): number => statSync(path).blocks * 512;

const sumOf = (path: string): string => `sha256sum < ${path}`;

async function features({ console }: GuestRun): Promise<string> {
  const [line = '', queues = ''] = (await console.output(
    'dmesg -n 1; dmesg | grep -m1 "blkfront: xvda:"; set -- /sys/block/xvda/mq/*; echo $#',
  )).split('\n');
  for (const wanted of ['flush diskcache: enabled', 'persistent grants: disabled', 'indirect descriptors: enabled']) {
    check(line.includes(wanted), `the kernel log says: ${line}`);
  }
  check(queues === '2', `${queues} queues for 2 vCPUs`);
  return `${line.replace(/^.*blkfront: /, '')}; ${queues} queues`;
}

/** @returns what the guest's file has for a checksum */
async function dataStep(run: GuestRun): Promise<{ detail: string; sha256: string }> {
  const output = await run.console.output(
    `mkfs.ext4 -q -F /dev/xvdb && mount /dev/xvdb /mnt && ` +
    `perl -e 'open F, "/dev/urandom"; read F, $b, 1048572; for (1 .. 24) { print pack("N", $_), $b }' | ` +
    `dd of=/mnt/data bs=1M iflag=fullblock conv=fsync status=none && ${sumOf('/mnt/data')} && sync && ` +
    `echo 3 > /proc/sys/vm/drop_caches && ${sumOf('/mnt/data')}`,
  );
  const [written, read] = output.split('\n').map((line) => line.slice(0, 64));
  check(written !== undefined && written === read, `written ${written}, read back ${read}`);
  // What is in the journal only, debugfs does not see.
  await run.console.output('fsfreeze -f /mnt');
  const seen = await hashOf('debugfs', ['-R', 'cat data', data(run)]);
  await run.console.output('fsfreeze -u /mnt');
  check(seen.sha256 === written, `the image holds ${seen.bytes} bytes with SHA-256 ${seen.sha256}, the guest wrote ${written}`);
  return { detail: '24 MiB in a fresh ext4 on xvdb; same SHA-256 after dropping caches and in the image', sha256: written };
}

async function discard(run: GuestRun): Promise<string> {
  await run.console.output('dd if=/dev/zero of=/mnt/junk bs=1M count=64 conv=fsync status=none');
  const full = allocated(data(run));
  const said = await run.console.output('rm /mnt/junk && sync && fstrim -v /mnt');
  const left = allocated(data(run));
  check(full - left > 60 * MIB, `${full} bytes allocated before fstrim, ${left} after (${said})`);
  return `fstrim: the image went from ${Math.round(full / MIB)} to ${Math.round(left / MIB)} MiB allocated`;
}

async function resize(run: GuestRun): Promise<string> {
  const { console, options } = run;
  const size = '/sys/block/xvdb/size';
  run.xenshim('block', 'resize', options.name, 'xvdb', '+256M');
  check(statSync(data(run)).size === 512 * MIB, `the image has ${statSync(data(run)).size} bytes`);
  const sectors = String((512 * MIB) / 512);
  const output = await console.output(
    `${until(`[ $(cat ${size}) = ${sectors} ]`)}; dmesg | grep "xvdb: detected capacity" | tail -n 1; ` +
    `resize2fs /dev/xvdb > /run/resize2fs 2>&1 || cat /run/resize2fs; df -k --output=size /mnt | tail -n 1`,
  );
  const [line = '', kib = ''] = output.split('\n').slice(-2);
  check(line.includes(`to ${sectors}`), output);
  check(Number(kib) > 450 * 1024, `after resize2fs the file system has ${kib} KiB: ${output}`);
  const refusal = await ask(options.name, 'block-resize', { vdev: 'xvdb', bytes: 256 * MIB })
    .then(() => 'done', (error: unknown) => (error instanceof OperatorError ? error.code : String(error)));
  check(refusal === 'DISK_SMALLER', `asked to shrink: ${refusal}`);
  return `${line.replace(/^\[.*?\] /, '')}; the file system now has ${Math.round(Number(kib) / 1024)} MiB`;
}

/** Hot attach and detach under I/O. */
async function hotplug(run: GuestRun, sha256: string): Promise<string> {
  const { console, options: { name } } = run;
  await console.output(
    `touch /run/busy; ( (n=0; while [ -e /run/busy ]; do dd if=/mnt/data of=/mnt/copy bs=1M conv=fsync status=none || ` +
    `touch /run/bad; n=$((n+1)); done; echo $n > /run/rounds) < /dev/null > /dev/null 2>&1 & )`,
  );
  const four = run.makeFile('four.img', 64 * MIB);
  const vdev = run.xenshim('block', 'attach', name, `${four},sector-size=4096`, '--as', 'xvdc');
  check(vdev === 'xvdc', `attached as ${vdev}`);
  const seen = await console.output(
    `${until('[ -e /dev/xvdc ]')}; cat /sys/block/xvdc/queue/logical_block_size /sys/block/xvdc/queue/physical_block_size ` +
    `&& mkfs.ext4 -q -F /dev/xvdc && mount /dev/xvdc /srv && cp /mnt/data /srv/data && umount /srv && echo used`, 300);
  check(seen === '4096\n4096\nused', seen);
  run.xenshim('block', 'detach', name, 'xvdc');
  const gone = await console.output(
    `${until(away(XVDC))}; rm /run/busy; ${until('[ -e /run/rounds ]')}; cat /run/rounds; ` +
    `[ ! -e /run/bad ] && echo good; ${sumOf('/mnt/copy')}`, 300);
  const [rounds, verdict, sum] = gone.split('\n');
  check(Number(rounds) > 0 && verdict === 'good' && sum?.slice(0, 64) === sha256, `the other disk meanwhile: ${gone}`);
  const host = await hashOf('debugfs', ['-R', 'cat data', four]);
  check(host.sha256 === sha256, `the detached image holds ${host.bytes} bytes with SHA-256 ${host.sha256}`);
  const listed = run.xenshim('block', 'list', name).split('\n').slice(1).map((line) => line.split(' ')[0]);
  check(listed.join() === 'xvda,xvdb', `block list has ${listed.join()}`);
  return `xvdc with 4096-byte sectors came, was used and went while xvdb was written ${rounds} times; checksums equal`;
}

async function kinds(run: GuestRun, sha256: string): Promise<string> {
  const { console, options: { name } } = run;
  run.makeFile('stick.img', MIB);
  run.makeFile('cd.iso', MIB);
  for (const [disk, as] of [
    ['four.img,ro,sector-size=4096', 'xvdc'], ['stick.img,removable,queues=1', 'xvdd'], ['cd.iso,cdrom', 'xvdh'],
  ]) await ask(name, 'block-attach', { disk, as, cwd: run.work });
  const cd = `/sys/bus/xen/devices/${XVDH}`;
  const seen = await console.output(
    `${until('[ -e /dev/xvdc ]')}; ${until('[ -e /dev/xvdd ]')}; ${until(`[ -e ${cd} ]`)}; ` +
    `cat /sys/block/xvdc/ro /sys/block/xvdd/removable; set -- /sys/block/xvdd/mq/*; echo $#; ` +
    `dd if=/dev/zero of=/dev/xvdc bs=4096 count=1 oflag=direct > /dev/null 2>&1 && echo written; ` +
    `mount -o ro /dev/xvdc /srv && ${sumOf('/srv/data')}; [ -e ${cd}/driver ] && echo driver; echo end`, 300);
  check(seen.replace(sha256, 'SUM') === '1\n1\n1\nSUM  -\nend', seen);
  const type = await ask(name, 'xenstore-read', { path: 'device/vbd/51824/device-type' });
  check(type === 'cdrom', `the CD-ROM is a ${String(type)} in the store`);
  await ask(name, 'block-detach', { vdev: 'xvdh', force: true });
  // xvdc is mounted: blkfront marks the disk dead and lets go of it all the same.
  for (const vdev of ['xvdc', 'xvdd']) await ask(name, 'block-detach', { vdev });
  const left = await console.output(`${until(away(XVDH))}; ${until(away(XVDC))}; ${until(away(XVDD))}; umount /srv; echo gone`);
  check(left === 'gone', left);
  return 'read-only, removable with one queue, and a CD-ROM without a driver; detached, one while it was mounted, the last by force';
}

/** With persistent grants blkfront copies every byte through pages of its own; O_DIRECT takes those pages as they are. */
async function persistent({ console, options: { name }, work }: GuestRun, sha256: string): Promise<string> {
  await ask(name, 'block-attach', { disk: 'four.img,persistent,direct,sector-size=4096', as: 'xvdc', cwd: work });
  const output = await console.output(
    `${until('[ -e /dev/xvdc ]')}; dmesg | grep "blkfront: xvdc:" | tail -n 1 | grep -o "persistent grants: [a-z]*"; ` +
    `mount /dev/xvdc /srv && dd if=/srv/data of=/srv/again bs=1M conv=fsync status=none && rm /srv/data && sync && ` +
    `echo 3 > /proc/sys/vm/drop_caches && ${sumOf('/srv/again')} && umount /srv && echo used`, 300);
  check(output.replace(sha256, 'SUM') === 'persistent grants: enabled\nSUM  -\nused', output);
  const [stat] = (await ask(name, 'block-stat', { vdev: 'xvdc' })) as BlockStat[];
  check(stat!.total.persistent > 0 && stat!.total.errors === 0, JSON.stringify(stat!.total));
  await ask(name, 'block-detach', { vdev: 'xvdc' });
  const host = await hashOf('debugfs', ['-R', 'cat again', join(work, 'four.img')]);
  check(host.sha256 === sha256, `the image holds ${host.bytes} bytes with SHA-256 ${host.sha256}`);
  const { rd_req, wr_req, persistent: kept } = stat!.total;
  return `${kept} persistent grants after ${rd_req} reads and ${wr_req} writes; same SHA-256 in the image`;
}

/** Linux's blkfront never leaves Closed by itself: bound again it waits for a device that is made anew. */
async function rebind({ console, options: { name }, work }: GuestRun, sha256: string): Promise<string> {
  const gone = await console.output(
    `umount /mnt; echo ${XVDB} > /sys/bus/xen/drivers/vbd/unbind; ${until('[ ! -e /dev/xvdb ]')}; echo gone`);
  check(gone === 'gone', gone);
  let listed: BlockStatus | undefined;
  // The driver says Closed and goes; our end follows when it has heard of it.
  for (let tries = 0; tries < 100 && listed?.state !== 'Closed'; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    listed = ((await ask(name, 'block-list')) as BlockStatus[]).find(({ vdev }) => vdev === 'xvdb');
  }
  check(listed?.state === 'Closed' && listed.frontend === 'Closed', `xvdb is ${listed?.state}, its frontend ${listed?.frontend}`);
  await ask(name, 'block-detach', { vdev: 'xvdb' });
  await console.output(until(away(XVDB)));
  await ask(name, 'block-attach', { disk: 'data.img', as: 'xvdb', cwd: work });
  const output = await console.output(`${until('[ -e /dev/xvdb ]')}; mount /dev/xvdb /mnt && ${sumOf('/mnt/data')}`);
  check(output.slice(0, 64) === sha256, output);
  return 'unbound: both ends Closed; detached, attached, mounted with the same SHA-256';
}

async function example({ console }: GuestRun, sha256: string): Promise<string> {
  const output = await console.output(
    `${until('[ -e /dev/xvdm ]')}; cat /sys/block/xvdm/size; mkfs.ext4 -q -F /dev/xvdm && mount /dev/xvdm /srv && ` +
    `cp /mnt/data /srv/data && sync && echo 3 > /proc/sys/vm/drop_caches && ${sumOf('/srv/data')} && umount /srv && echo used`, 300);
  check(output.replace(sha256, 'SUM') === `${(64 * MIB) / 512}\nSUM  -\nused`, output);
  return '24 MiB in a fresh ext4 on a disk of 64 MiB; same SHA-256 after dropping caches';
}

async function kexec(run: GuestRun, sha256: string): Promise<string> {
  const { console } = run;
  const bootId = 'cat /proc/sys/kernel/random/boot_id';
  const before = await console.output(bootId);
  await console.output('kexec -l /boot/vmlinuz-$(uname -r) --initrd=/boot/initrd.img-$(uname -r) --append="$(cat /proc/cmdline) again" 2>&1', 300);
  console.type('umount /mnt; sync; mount -o remount,ro /; kexec -e');
  await console.loginAgain();
  const [after, again, ...rest] = (await console.output(
    `${bootId}; grep -c " again$" /proc/cmdline; dmesg | grep -m1 -o "Hypervisor detected: .*"; nproc; ` +
    `mount /dev/xvdb /mnt && ${sumOf('/mnt/data')}; mount /dev/xvdm /srv && ${sumOf('/srv/data')}; umount /srv`)).split('\n');
  check(before !== after && again === '1', 'the same kernel goes on, or one that the firmware started');
  check(rest.join() === `Hypervisor detected: Xen HVM,2,${sha256}  -,${sha256}  -`, `after kexec: ${rest.join(' | ')}`);
  const log = readFileSync(run.log, 'utf8');
  check(log.includes('soft reset: the guest starts another kernel'), 'the log knows of no soft reset');
  return 'kexec through a soft reset: new kernel, both vCPUs, disks and data are there';
}

export const blockCourse: Course<BlockStep> = async (guest, steps) => {
  let sha256 = '';
  // Where `ask` looks for the guest.
  process.env['XENSHIM_RUNDIR'] = guest.runDir;
  await steps.run('features', () => features(guest));
  await steps.run('data', async () => {
    const result = await dataStep(guest);
    sha256 = result.sha256;
    return result.detail;
  }, 'vital');
  await steps.run('discard', () => discard(guest));
  await steps.run('resize', () => resize(guest));
  await steps.run('hotplug', () => hotplug(guest, sha256));
  await steps.run('kinds', () => kinds(guest, sha256));
  await steps.run('persistent', () => persistent(guest, sha256));
  await steps.run('rebind', () => rebind(guest, sha256));
  await steps.run('example', () => example(guest, sha256));
  await steps.run('kexec', () => kexec(guest, sha256), 'vital');
  await steps.run('poweroff', () => poweroffStep(guest));
};
