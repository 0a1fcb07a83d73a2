/**
 * `npm run bench:boot`: how long the same guest takes from the start of its command to its login prompt, under xenshim and
 * under QEMU's own Xen mode; one after the other in every round, after a round that is not counted; medians.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chooseHost, runInLab } from '../../../cli/demo/host.js';
import { builtImage } from '../../../vm-images/build.js';
import { imageSpec } from '../../../vm-images/manifest.js';
import { median } from '../helpers/native-load.js';
import { roomyFolder, SIDES, type Side } from './bench-guest.js';
import { bootAtLast, PATIENCE } from './boot-at-last.js';

const GUEST = 'trixie';
/** What is asked of ours over the peer's time. */
const ASKED = 1.05;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    json: { type: 'string' },
    /** Boots here and prints the times as JSON: what the lab host is asked for. */
    inside: { type: 'boolean', default: false },
  },
});

/** ms to the login prompt, by round; and how many guests never had one and were booted again, in the lab only. */
interface Times extends Record<Side, number[]> {
  readonly lost: Record<Side, number>;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** One boot: ms to the login prompt. */
async function boot(side: Side, image: string, lost: Times['lost']): Promise<number> {
  const folder = mkdtempSync(join(roomyFolder(), 'xenshim-boot-'));
  const options = () => ({ side, image, work: mkdtempSync(join(folder, 'guest-')), vcpus: 2, memory: 512 });
  try {
    const { guest, result } = await bootAtLast(options, async (started) => {
      await started.console.waitFor(/login: $/, PATIENCE);
      return performance.now() - started.startedAt;
    }, say, () => lost[side]++);
    await guest.close();
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function bootAll(image: string, rounds: number): Promise<Times> {
  const times: Times = { ours: [], peer: [], lost: { ours: 0, peer: 0 } };
  for (let round = 0; round <= rounds; round++) {
    for (const side of SIDES) {
      const ms = await boot(side, image, times.lost);
      if (round > 0) times[side].push(Math.round(ms));
      say(`${round === 0 ? 'not counted' : `round ${round}`}: ${side} ${(ms / 1000).toFixed(1)} s`);
    }
  }
  return times;
}

async function inLab(): Promise<Times> {
  const results = mkdtempSync(join(tmpdir(), 'xenshim-bench-'));
  try {
    await runInLab({
      script: 'test/performance/guest/boot.js',
      args: ['--inside', `--rounds=${values.rounds}`],
      results,
      guests: [GUEST],
      timeoutSeconds: 3600,
      onOutput: (chunk) => process.stdout.write(chunk),
      progress: say,
    });
    const file = join(results, 'times.json');
    if (!existsSync(file)) throw new Error('the benchmark ended without figures');
    return JSON.parse(readFileSync(file, 'utf8')) as Times;
  } finally {
    rmSync(results, { recursive: true, force: true });
  }
}

async function times(): Promise<Times> {
  const host = chooseHost();
  say(host.why);
  if (host.kind === 'lab') return await inLab();
  return await bootAll((await builtImage(imageSpec('guests', GUEST), say)).dir, Number(values.rounds));
}

if (values.inside) {
  const seen = await bootAll(join(process.env['XENSHIM_IMAGES'] ?? '.', GUEST), Number(values.rounds));
  writeFileSync(join(process.env['XENSHIM_RESULTS'] ?? '.', 'times.json'), JSON.stringify(seen));
} else {
  const { ours, peer, lost } = await times();
  const ratio = Number((median(ours) / median(peer)).toFixed(3));
  say(`\nboot to login prompt, medians of ${ours.length}: ours ${(median(ours) / 1000).toFixed(1)} s, ` +
    `QEMU's own Xen mode ${(median(peer) / 1000).toFixed(1)} s, ours/peer ${ratio} (asked <= ${ASKED})`);
  const report = { case: 'boot', ours_ms: median(ours), peer_ms: median(peer), ours_over_peer: ratio, asked: ASKED, times: { ours, peer }, lost };
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
}
