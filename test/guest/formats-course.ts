/**
 * A qcow2 disk that comes while the guest runs. Its storage daemon is killed while the guest writes, twice; the guest is to
 * see a pause and nothing else, and the image is to hold all that the guest was told is durable.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { GuestRun } from '../../cli/demo/guest-run.js';
import type { Course } from '../../cli/demo/session.js';
import { check, hashOf, poweroffStep } from '../../cli/demo/steps.js';

export type FormatsStep = 'formats' | 'poweroff';

export const formatsTitles: Readonly<Record<FormatsStep, string>> = {
  formats: 'is given a qcow2 image whose storage daemon is killed while it is written, and misses nothing of it',
  poweroff: 'powers off, and nothing is left',
};

const MIB = 2 ** 20;
/** What the guest writes, each MiB durable before the next one. */
const WRITTEN_MIB = 48;
/** The daemon is killed when the image has grown by so much since the last time. */
const KILLED_EVERY = 12 * MIB;
const KILLS = 2;

/** Bytes the host has allocated for a file. */
const allocated = (path: string): number => statSync(path).blocks * 512;

/** The storage daemon that serves an image; undefined while there is none. */
function daemonOf(image: string): number | undefined {
  const pid = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).find((name) => {
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, 'latin1');
      return words.startsWith('qemu-storage-daemon\0') && words.includes(image);
    } catch {
      return false; // it has just ended
    }
  });
  return pid === undefined ? undefined : Number(pid);
}

async function until<T>(what: string, look: () => T | undefined): Promise<T> {
  const end = Date.now() + 180_000;
  for (;;) {
    const seen = look();
    if (seen !== undefined) return seen;
    check(Date.now() < end, `waited three minutes for ${what}`);
    await sleep(20);
  }
}

/** Kills the daemon as often as asked for, each time with the image grown and not yet whole; returns how far it was. */
async function killWhileWriting(image: string, empty: number): Promise<string[]> {
  const killed: string[] = [];
  let last = 0;
  for (let at = empty + KILLED_EVERY; killed.length < KILLS; at += KILLED_EVERY) {
    await until(`the image to grow to ${at} bytes`, () => (allocated(image) >= at ? true : undefined));
    const pid = await until('a new storage daemon', () => {
      const found = daemonOf(image);
      return found === last ? undefined : found;
    });
    process.kill(pid, 'SIGKILL');
    const bytes = allocated(image) - empty;
    check(bytes < WRITTEN_MIB * MIB, `the guest had written everything (${bytes} bytes) when the daemon was killed`);
    killed.push((bytes / MIB).toFixed(0));
    last = pid;
  }
  return killed;
}

/** Attaches x.qcow2 as xvdc, and takes it and its file away again. */
async function formats(run: GuestRun): Promise<string> {
  const { console, options: { name }, work } = run;
  const image = run.makeFile('x.qcow2', 0);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '256M']);
  // Earlier disks of that name were taken away while they were in use.
  const countErrors = 'dmesg | grep -c "I/O error.*xvdc"; true';
  const restarts = (): number =>
    readFileSync(run.log, 'utf8').split('\n').filter((line) => line.includes('ended (SIGKILL); it is started again')).length;
  const restartsBefore = restarts();
  const errorsBefore = await console.output(countErrors);
  const vdev = run.xenshim('block', 'attach', name, image, '--as', 'xvdc');
  check(vdev === 'xvdc', `attached as ${vdev}`);
  await console.output(
    `n=0; until [ -e /dev/xvdc ]; do n=$((n+1)); [ $n -lt 150 ] || break; sleep 0.2; done; ` +
    `mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 /dev/xvdc && mount /dev/xvdc /srv && sync`, 300);
  const empty = allocated(image);
  await console.output(
    `( (perl -e 'open F, "/dev/urandom"; read F, $b, 1048572; for (1 .. ${WRITTEN_MIB}) { print pack("N", $_), $b }' | ` +
    `dd of=/srv/data bs=1M iflag=fullblock oflag=sync status=none && touch /run/whole; touch /run/over) < /dev/null > /run/said 2>&1 & )`);
  const killed = await killWhileWriting(image, empty);
  const output = await console.output(
    `until [ -e /run/over ]; do sleep 0.2; done; cat /run/said; [ -e /run/whole ] && stat -c %s /srv/data && sha256sum < /srv/data && ` +
    `echo 3 > /proc/sys/vm/drop_caches && sha256sum < /srv/data; umount /srv; rm -f /run/over /run/whole /run/said; ` +
    countErrors, 300);
  const [size, first = '', again, errors] = output.split('\n');
  check(size === String(WRITTEN_MIB * MIB) && first === again && errors === errorsBefore, `the guest says: ${output}`);
  run.xenshim('block', 'detach', name, 'xvdc');
  await until('the end of the storage daemon', () => (daemonOf(image) === undefined ? true : undefined));
  await imageHolds(image, join(work, 'x.raw'), first.slice(0, 64));
  check(restarts() - restartsBefore === KILLS, `the log knows of ${restarts() - restartsBefore} restarts`);
  rmSync(image);
  return `qcow2: storage daemon killed after ${killed.join(' and ')} of ${WRITTEN_MIB} MiB; same SHA-256 after dropping caches and in the image, which checks clean`;
}

/** The image is consistent, its file system too, and the file in it is the guest's. */
async function imageHolds(image: string, raw: string, sha256: string): Promise<void> {
  const qcow2 = await hashOf('qemu-img', ['check', '-q', image]);
  check(qcow2.status === 0, `qemu-img check ended with ${qcow2.status}`);
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, raw]);
  try {
    const fsck = await hashOf('e2fsck', ['-fn', raw]);
    check(fsck.status === 0, `e2fsck -fn of the image ended with ${fsck.status}`);
    const seen = await hashOf('debugfs', ['-R', 'cat data', raw]);
    check(seen.sha256 === sha256, `the image holds ${seen.bytes} bytes with SHA-256 ${seen.sha256}, the guest wrote ${sha256}`);
  } finally {
    rmSync(raw);
  }
}

export const formatsCourse: Course<FormatsStep> = async (guest, steps) => {
  await steps.run('formats', () => formats(guest));
  await steps.run('poweroff', () => poweroffStep(guest));
};
