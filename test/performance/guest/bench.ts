/**
 * `npm run bench:guest`: a guest under xenshim and the same guest under QEMU's own Xen mode do the same disk and network
 * jobs, on one host: this machine's KVM, or the lab's. In the lab, where KVM runs on a software CPU, figures compare only with
 * those of the same run.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chooseHost, runInLab } from '../../../cli/demo/host.js';
import { builtImage } from '../../../vm-images/build.js';
import { imageSpec } from '../../../vm-images/manifest.js';
import { compare, type Comparison } from './compare.js';
import { OPTIONS, settingsOf, settingWords } from './settings.js';

const { values } = parseArgs({ options: { ...OPTIONS, json: { type: 'string' } } });
const settings = settingsOf(values);

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function inLab(): Promise<Comparison> {
  const results = mkdtempSync(join(tmpdir(), 'xenshim-bench-'));
  try {
    await runInLab({
      script: 'test/performance/guest/compare.js',
      args: settingWords(settings),
      results,
      guests: ['bench'],
      timeoutSeconds: 3600,
      onOutput: (chunk) => process.stdout.write(chunk),
      progress: say,
    });
    const file = join(results, 'comparison.json');
    if (!existsSync(file)) throw new Error('the benchmark ended without figures');
    return JSON.parse(readFileSync(file, 'utf8')) as Comparison;
  } finally {
    rmSync(results, { recursive: true, force: true });
  }
}

const host = chooseHost();
say(host.why);
const { rows, features } = host.kind === 'lab'
  ? await inLab()
  : await compare((await builtImage(imageSpec('guests', 'bench'), say)).dir, settings, say);

for (const [side, text] of Object.entries(features)) say(`\n${side}:\n${text}`);
say(`\n${'case'.padEnd(20)}${['peer', 'ours', 'ours/peer', 'asked'].map((word) => word.padStart(12)).join('')}`);
for (const row of rows) {
  const numbers = [row.peer.toFixed(1), row.ours.toFixed(1), row.ours_over_peer.toFixed(2), `>= ${row.asked}`];
  say(`${row.case.padEnd(20)}${numbers.map((word) => word.padStart(12)).join('')}  ${row.unit}`);
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
