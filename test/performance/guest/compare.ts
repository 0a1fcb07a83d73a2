/**
 * The part of `npm run bench:guest` on the KVM host: both guests run at the same time, one works while the other is idle;
 * in every round each case is done by both, so that a noisy machine disturbs both alike. Medians of the rounds.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { median } from '../helpers/native-load.js';
import { roomyFolder, SIDES, type BenchGuest, type Side } from './bench-guest.js';
import { bootAtLast, PATIENCE } from './boot-at-last.js';
import { CASES, DATA_BYTES, DATA_DEVICE, type GuestCase } from './cases.js';
import { counters, perOperation } from './counters.js';
import { parseSettings, type Settings } from './settings.js';
import { startStreamPeer } from './stream-peer.js';

export interface GuestRow {
  readonly case: string;
  readonly unit: string;
  readonly peer: number;
  readonly ours: number;
  readonly ours_over_peer: number;
  readonly asked: number;
}

export interface Comparison {
  readonly rows: readonly GuestRow[];
  /** What the guests' kernels say of their disks. */
  readonly features: Readonly<Record<Side, string>>;
}

type Say = (line: string) => void;

/** Runs everything on this host, as root. @param image folder with disk.img, vmlinuz and initrd */
export async function compare(image: string, settings: Settings, say: Say): Promise<Comparison> {
  const work = mkdtempSync(join(roomyFolder(), 'xenshim-bench-'));
  const guests = new Map<Side, BenchGuest>();
  const close: (() => void | Promise<void>)[] = [() => {
    rmSync(work, { recursive: true, force: true });
  }];
  try {
    for (const side of SIDES) {
      say(`starting the guest under ${side === 'ours' ? 'xenshim' : "QEMU's own Xen mode"}`);
      const data = join(work, `${side}.img`);
      execFileSync('dd', ['if=/dev/zero', `of=${data}`, 'bs=1M', `count=${DATA_BYTES / 2 ** 20}`, 'status=none']);
      const { nodeOptions, diskOptions } = settings;
      const { guest } = await bootAtLast(
        () => ({ side, image, work: join(work, side), data, vcpus: 2, memory: 512, nodeOptions, diskOptions }),
        async (started) => {
          await started.connected();
          await started.console.login(PATIENCE);
        }, say);
      close.push(() => guest.close());
      guests.set(side, guest);
      const peer = await startStreamPeer(guest.network);
      close.push(() => void process.kill(-peer.pid!));
    }
    const features = { ours: await featuresOf(guests.get('ours')!), peer: await featuresOf(guests.get('peer')!) };
    const cases = CASES.filter(({ name }) => settings.cases.length === 0 || settings.cases.some((part) => name.includes(part)));
    return { rows: await measureAll(guests, cases, settings, say), features };
  } catch (error) {
    for (const guest of guests.values()) say(`${guest.name}: ${guest.lastLog()}\n${await guest.stuckAt()}`);
    throw error;
  } finally {
    for (const each of close.reverse()) await each();
  }
}

/** Indirect descriptors, flushes and persistent grants; queues; what may be discarded at once. */
async function featuresOf({ console }: BenchGuest): Promise<string> {
  return await console.output(
    `dmesg -n 1; dmesg | grep -o "blkfront: xvdb: .*"; cd /sys/block/${DATA_DEVICE.slice(5)}; set -- mq/*; echo "$# queues"; ` +
    `echo "discard up to $(cat queue/discard_max_bytes) bytes"; cd`);
}

async function measureAll(
  guests: ReadonlyMap<Side, BenchGuest>,
  cases: readonly GuestCase[],
  settings: Settings,
  say: Say,
): Promise<GuestRow[]> {
  const rates = new Map<string, number[]>();
  for (let round = settings.warmUp > 0 ? 0 : 1; round <= settings.rounds; round++) {
    for (const each of cases) {
      const seen: string[] = [];
      for (const [side, guest] of guests) {
        const rate = await measure(guest, each, round === 0 ? settings.warmUp : settings.seconds,
          settings.counters && round === settings.rounds ? say : undefined);
        seen.push(`${side} ${rate.toFixed(1)}`);
        if (round > 0) rates.set(`${each.name} ${side}`, [...(rates.get(`${each.name} ${side}`) ?? []), rate]);
      }
      say(`${round === 0 ? 'warm-up' : `round ${round}`}: ${each.name.padEnd(18)} ${seen.join(', ')} ${each.unit}`);
    }
  }
  return cases.map(({ name, unit, asked }) => {
    const ours = median(rates.get(`${name} ours`)!);
    const peer = median(rates.get(`${name} peer`)!);
    return { case: name, unit, peer, ours, ours_over_peer: Number((ours / peer).toFixed(3)), asked };
  });
}

/** Bytes an operation of a stream stands for in the counters: as much as a page. */
const STREAM_OPERATION = 4096;

async function measure(guest: BenchGuest, each: GuestCase, seconds: number, counted: Say | undefined): Promise<number> {
  const before = counted === undefined ? undefined : await counters(guest);
  const output = await guest.console.output(each.command(seconds), seconds * 3 + 60);
  const rate = Number(output.split('\n').at(-1));
  if (!(rate > 0)) throw new Error(`${each.name} under ${guest.name}: ${output}`);
  if (before !== undefined) {
    const operations = each.unit === 'MB/s' ? (rate * 1e6 * seconds) / STREAM_OPERATION : rate * seconds;
    counted!(`${each.name} ${guest.options.side}, for each of ${operations.toFixed(0)} operations:\n` +
      perOperation(before, await counters(guest), operations).join('\n'));
  }
  return rate;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  // Counters of KVM: a lab host has no debugfs mounted.
  if (process.env['XENSHIM_LAB'] !== undefined && !existsSync('/sys/kernel/debug/kvm')) {
    execFileSync('mount', ['-t', 'debugfs', 'debugfs', '/sys/kernel/debug']);
  }
  const results = process.env['XENSHIM_RESULTS'] ?? '.';
  mkdirSync(results, { recursive: true });
  const comparison = await compare(join(process.env['XENSHIM_IMAGES'] ?? '.', 'bench'), parseSettings(process.argv.slice(2)), (line) => {
    process.stdout.write(`${line}\n`);
  });
  writeFileSync(join(results, 'comparison.json'), JSON.stringify(comparison));
}
