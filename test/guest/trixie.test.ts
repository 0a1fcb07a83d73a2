/** Debian trixie under xenshim, on this machine's KVM or in the lab. All guests run once, before the first test. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { chooseHost, runInLab } from '../../cli/demo/host.js';
import type { Report } from '../../cli/demo/report.js';
import { builtImage } from '../../vm-images/build.js';
import { imageSpec } from '../../vm-images/manifest.js';
import { blockTitles } from './block-course.js';
import { fifoTitles } from './fifo-course.js';
import { netTitles } from './net-course.js';
import { allRuns, blockRun, fifoRun, netRun, runs, usual } from './runs.js';

/** XENSHIM_ALL_GUESTS=1 boots the guests with options off by default, too. */
const all = process.env['XENSHIM_ALL_GUESTS'] === '1';
const names = all ? [...usual, 'net', 'fifo'] : usual;

const results = mkdtempSync(join(tmpdir(), 'xenshim-guests-'));
const said: string[] = [];
let failed = false;

test.before('the guests run', async (t) => {
  t.timeout(30 * 60_000);
  const say = (line: string): void => {
    said.push(line);
    process.stderr.write(`  ${line}\n`);
  };
  const host = chooseHost();
  say(host.why);
  if (host.kind === 'native') {
    const { dir } = await builtImage(imageSpec('guests', 'trixie'), say);
    await allRuns(dir, results, say, names);
    return;
  }
  await runInLab({
    script: 'test/guest/runs.js',
    args: [...names],
    results,
    guest: 'trixie',
    timeoutSeconds: 28 * 60,
    onOutput: (chunk) => {
      for (const line of chunk.toString().trimEnd().split('\n')) say(line);
    },
    progress: say,
  });
});

test.after.always('the logs of failed guests stay', () => {
  if (failed) process.stderr.write(`  logs: ${results}\n`);
  else rmSync(results, { recursive: true, force: true });
});

function reportOf(name: string): Report | undefined {
  const file = join(results, `${name}.json`);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Report) : undefined;
}

const titles = {
  kernel: 'finds itself on Xen HVM, with all its vCPUs and the Xen clock',
  disk: 'writes 64 MiB to its PV root disk, which the image then holds',
  network: 'pings and transfers 64 MiB each way over its PV network',
  console: 'answers a login on its PV console',
  unplug: 'sees no emulated disk or NIC',
  poweroff: 'powers off when asked from outside, and nothing is left',
  reboot: 'reboots from inside and comes back',
  'high-memory': 'does disk I/O straight from and to pages above 4 GiB',
} as const;

function testStep(name: string, stepName: string, title: string): void {
  test(title, (t) => {
    const step = reportOf(name)?.steps.find((each) => each.name === stepName);
    if (step?.ok !== true) {
      failed = true;
      t.fail(step?.detail ?? `no report of this guest; the run said: ${said.slice(-5).join(' | ')}`);
      return;
    }
    t.log(`${step.detail} (${step.seconds} s)`);
    t.pass();
  });
}

for (const [name, run] of Object.entries(runs)) {
  for (const stepName of run.steps) {
    testStep(name, stepName, `Debian trixie, ${run.machine}, ${run.memory} MiB, ${run.vcpus} vCPUs: ${titles[stepName]}`);
  }
}
for (const stepName of blockRun.steps) {
  testStep('block', stepName, `Debian trixie and its disks: ${blockTitles[stepName]}`);
}
for (const stepName of all ? netRun.steps : []) {
  testStep('net', stepName, `Debian trixie and its network: ${netTitles[stepName]}`);
}
for (const stepName of all ? fifoRun.steps : []) {
  testStep('fifo', stepName, `Debian trixie with FIFO event channels: ${fifoTitles[stepName]}`);
}
