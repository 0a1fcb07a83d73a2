/**
 * A guest with 1 GiB of RAM of which 256 MiB may be in the host's memory: it fills and checks more than that, reads and
 * writes a checksummed data set on a PV disk, transfers over the network, and gives memory back under I/O.
 */
import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../../cli/control/client.js';
import type { GuestStatus } from '../../cli/control/commands.js';
import type { GuestRun } from '../../cli/demo/guest-run.js';
import type { Course } from '../../cli/demo/session.js';
import { check, diskStep, imageStep, networkStep, poweroffStep } from '../../cli/demo/steps.js';
import type { PageReport } from '../../cli/run/page-control.js';

const MIB = 2 ** 20;
const PAGES = MIB / 4096;

/** MiB; RAM as the manifest has it. */
const RAM = 1024;
const RESIDENT = 256;
/** What its balloon leaves it at boot. */
const START = 896;
/** Filled and checked, and what stays filled afterwards. */
const FILLED = 768;
const HELD = 448;
const DATA = 256;

/** Removed by xenshim when the guest ends. */
const pageFile = join(tmpdir(), `xenshim-paged-${process.pid}`);

export const pagedSetup = {
  disks: [{ file: 'data.img', bytes: DATA * MIB }],
  xenOptions: ['--mem', `${START}M`, '--page-to', pageFile, '--max-resident', `${RESIDENT}M`],
} as const;

export const pagedSteps = ['resident', 'populate', 'memory', 'disk', 'network', 'counts', 'balloon', 'poweroff'] as const;
export type PagedStep = (typeof pagedSteps)[number];

export const pagedTitles: Readonly<Record<PagedStep, string>> = {
  resident: `boots with ${RESIDENT} MiB of its ${RAM} MiB in memory`,
  populate: `has ${START} MiB at first, and takes the rest when it is told to`,
  memory: `fills ${FILLED} MiB of memory, and every page of it is right`,
  disk: `writes a data set of ${DATA} MiB to a PV disk and reads it back right, while most of its memory is out`,
  network: 'transfers 64 MiB each way over TCP, and its memory is still right',
  counts: 'was paged for: 10,000 evictions, 1,000 grants told to come again, and no wait of a second',
  balloon: 'gives half of its memory back under I/O and takes it again, and the host has it meanwhile',
  poweroff: 'powers off, and nothing is left',
};

/** Every page is another: `fill FILE PAGES SALT`, `verify FILE PAGES SALT`. */
const program = String.raw`
use strict; my ($verb, $file, $pages, $salt) = @ARGV;
open(my $f, $verb eq "fill" ? "+>:raw" : "<:raw", $file) or die "$file: $!";
for (my $page = 0; $page < $pages; $page += 64) {
  my $expected = join "", map { pack("QQ", $_ * 2654435761 + $salt, $salt) x 256 } $page .. $page + 63;
  if ($verb eq "fill") { syswrite($f, $expected) == 262144 or die "write: $!"; next }
  my $got = ""; while (length $got < 262144) { sysread($f, $got, 262144 - length $got, length $got) or die "read: $!" }
  next if $got eq $expected;
  for (0 .. 63) { die "page ", $page + $_, " is wrong\n" if substr($got, $_ * 4096, 4096) ne substr($expected, $_ * 4096, 4096) }
}
if ($verb eq "fill") { require IO::Handle; $f->sync if -b $file }
print "$verb $pages\n";
`;

const pages = (verb: 'fill' | 'verify', file: string, count: number, salt: number): string =>
  `perl /run/pages.pl ${verb} ${file} ${count} ${salt}`;

const held = '/mnt/held';

const report = async ({ options }: GuestRun): Promise<PageReport> => (await ask(options.name, 'page-stat')) as PageReport;

/** MiB of host memory that the guest's RAM takes: the blocks of QEMU's memfd. */
async function hostMemory({ options }: GuestRun): Promise<number> {
  const { qemuPid } = (await ask(options.name, 'status')) as GuestStatus;
  const folder = `/proc/${qemuPid}/fd`;
  const fd = readdirSync(folder).find((name) => readlinkSync(join(folder, name)).startsWith('/memfd:memory-backend-memfd'));
  check(fd !== undefined, 'QEMU has no memfd for RAM');
  return (statSync(join(folder, fd)).blocks * 512) / MIB;
}

async function within(run: GuestRun): Promise<string> {
  const used = await hostMemory(run);
  // The first MiB is not paged, and what is pinned may be there beyond the limit.
  check(used < RESIDENT + 16, `the guest's RAM takes ${used.toFixed(1)} MiB of the host's`);
  return `${used.toFixed(1)} MiB`;
}

async function resident(run: GuestRun): Promise<string> {
  const total = Number(await run.console.output("dmesg -n 1; awk '/^MemTotal/ {print $2}' /proc/meminfo"));
  check(total > 0.85 * START * 1024, `the guest sees ${total} KiB of RAM`);
  const { evicted, pagedIn } = await report(run);
  return `the guest sees ${Math.floor(total / 1024)} MiB, the host has ${await within(run)}; ${evicted} evictions, ${pagedIn} page-ins so far`;
}

/** Tells the balloon to go there, and waits until it has. */
async function target(run: GuestRun, mib: number): Promise<void> {
  run.xenshim('mem-set', run.options.name, String(mib));
  await ballooned(run, mib);
}

/** As the host sees it; the guest's own count starts a little below its RAM. */
async function ballooned(run: GuestRun, mib: number): Promise<void> {
  const wanted = (RAM - mib) * PAGES;
  let released = -1;
  for (const until = Date.now() + 120_000; Date.now() < until; await sleep(500)) {
    ({ released } = await report(run));
    if (Math.abs(released - wanted) <= 2 * PAGES) return;
  }
  check(false, `the guest has given back ${released} pages, not ${wanted}`);
}

async function populate(run: GuestRun): Promise<string> {
  await ballooned(run, START);
  const { released } = await report(run);
  check(released >= (RAM - START) * PAGES * 0.9, `${released} pages were given back`);
  await target(run, RAM);
  const { released: left } = await report(run);
  return `${released} pages given back at boot, ${left} after mem-set ${RAM}`;
}

async function memory(run: GuestRun): Promise<string> {
  const { console } = run;
  await console.output(`cat > /run/pages.pl <<'END'\n${program.trim()}\nEND`);
  await console.output('mount -t tmpfs -o size=95% tmpfs /mnt');
  await console.output(pages('fill', held, FILLED * PAGES, 1), 1800);
  await console.output(pages('verify', held, FILLED * PAGES, 1), 1800);
  const { evicted, pagedIn } = await report(run);
  await console.output(`truncate -s ${HELD}M ${held}`);
  return `${FILLED} MiB filled and verified in ${await within(run)}; ${evicted} evictions, ${pagedIn} page-ins so far`;
}

async function disk(run: GuestRun): Promise<string> {
  const { console } = run;
  await console.output(pages('fill', '/dev/xvdb', DATA * PAGES, 2), 1800);
  await console.output(`echo 3 > /proc/sys/vm/drop_caches; ${pages('verify', '/dev/xvdb', DATA * PAGES, 2)}`, 1800);
  const { eagain } = await report(run);
  return `${DATA} MiB written, read back and verified; ${eagain} grants told to come again so far`;
}

async function network(run: GuestRun): Promise<{ detail: string; sha256: string }> {
  const { sha256 } = await diskStep(run);
  const detail = await networkStep(run, sha256);
  await run.console.output(pages('verify', held, HELD * PAGES, 1), 1800);
  return { detail: `${detail}; ${HELD} MiB of memory verified again`, sha256 };
}

async function counts(run: GuestRun): Promise<string> {
  const { evicted, pagedIn, eagain, slowest, cancelled, refused, waiting, crowded, faults } = await report(run);
  check(evicted >= 10_000, `${evicted} evictions`);
  check(eagain >= 1000, `${eagain} grants told to come again`);
  check(waiting < 256 && slowest < 1_000_000, `${waiting} requests wait, the slowest page-in took ${slowest} µs`);
  return `${evicted} evictions (${cancelled} cancelled), ${pagedIn} page-ins for ${faults} faults, slowest ${slowest} µs, ` +
    `eagain ${eagain}, refused ${refused}, crowded ${crowded}`;
}

async function balloon(run: GuestRun): Promise<string> {
  const { console, options } = run;
  // So that what the host gets back is not what was out anyway.
  run.xenshim('page', 'limit', options.name, String(RAM));
  await console.output(`umount /mnt; mount -t tmpfs -o size=95% tmpfs /mnt; ${pages('fill', held, HELD * PAGES, 3)}`, 1800);
  const before = await hostMemory(run);
  await console.output(`rm ${held}`);
  await console.output('(while [ ! -e /run/stop ]; do ' +
    `${pages('verify', '/dev/xvdb', DATA * PAGES, 2)} || echo bad >> /run/bad; echo 3 > /proc/sys/vm/drop_caches; echo >> /run/turns; ` +
    'done) > /dev/null 2>> /run/bad &');
  await target(run, RAM / 2);
  const during = await hostMemory(run);
  const { released } = await report(run);
  await target(run, RAM);
  const output = await console.output('touch /run/stop; wait; wc -l < /run/turns; cat /run/bad', 300);
  const [turns, ...bad] = output.split('\n');
  check(Number(turns) >= 1 && bad.join('').trim() === '', `the disk under the balloon: ${output}`);
  await console.output(`${pages('fill', held, HELD * PAGES, 4)} && ${pages('verify', held, HELD * PAGES, 4)}`, 1800);
  const after = await hostMemory(run);
  check(released >= 0.45 * RAM * PAGES, `${released} pages were given back`);
  check(during < before - 100 && after > during + 100, `host memory ${before} MiB, ${during}, ${after}`);
  return `host memory ${before.toFixed(0)} MiB before, ${during.toFixed(0)} with ${released} pages given back, ${after.toFixed(0)} after; ` +
    `${turns} passes over the disk meanwhile`;
}

export const pagedCourse: Course<PagedStep> = async (guest, steps) => {
  // Where `ask` looks for the guest.
  process.env['XENSHIM_RUNDIR'] = guest.runDir;
  let sha256 = '';
  await steps.run('resident', () => resident(guest));
  await steps.run('populate', () => populate(guest));
  await steps.run('memory', () => memory(guest));
  await steps.run('disk', () => disk(guest));
  await steps.run('network', async () => {
    const result = await network(guest);
    ({ sha256 } = result);
    return result.detail;
  });
  await steps.run('counts', () => counts(guest));
  await steps.run('balloon', () => balloon(guest));
  await steps.run('poweroff', () => poweroffStep(guest));
  await steps.run('network', () => imageStep(guest, sha256));
};
