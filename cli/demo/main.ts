/** `npm run demo`: boots a Debian guest on the best host there is and reports what it and the host show. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { OperatorError } from '../../shim/observe/errors.js';
import { builtImage } from '../../vm-images/build.js';
import { imageSpec } from '../../vm-images/manifest.js';
import { parseOptions } from '../arguments.js';
import { demoSession } from './demo-session.js';
import { chooseHost, runInLab, type HostJob } from './host.js';
import { reportText, type Report } from './report.js';

const usage = `usage: npm run demo -- [--report FILE]

Boots an unmodified Debian Xen guest under xenshim beside a stock QEMU and reports what the guest and the host show.
  --report FILE   the report as JSON
  --machine TYPE  pc or q35 (q35)
`;

const guest = 'trixie';

async function main(): Promise<number> {
  const { values } = parseOptions('demo', {
    options: {
      report: { type: 'string' },
      machine: { type: 'string', default: 'q35' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const { machine } = values;
  if (machine !== 'pc' && machine !== 'q35') {
    throw new OperatorError('USAGE', `--machine cannot be '${machine}'`, 'use pc or q35');
  }
  const started = Date.now();
  const report = await demo(machine);
  process.stdout.write(`\n${reportText(report)}whole demo: ${((Date.now() - started) / 1000).toFixed(0)} s\n`);
  if (values.report !== undefined) {
    mkdirSync(dirname(resolve(values.report)), { recursive: true });
    writeFileSync(values.report, `${JSON.stringify(report, null, 2)}\n`);
    say(`report written to ${values.report}`);
  }
  return report.ok ? 0 : 1;
}

async function demo(machine: 'pc' | 'q35'): Promise<Report> {
  const host = chooseHost();
  say(host.why);
  if (host.kind === 'lab') return await runThere(machine);
  const image = (await builtImage(imageSpec('guests', guest), say)).dir;
  return await demoSession({ image, machine, say, logs: tmpdir() });
}

async function runThere(machine: string): Promise<Report> {
  const results = mkdtempSync(join(tmpdir(), 'xenshim-demo-'));
  let ok = false;
  try {
    await inLivingLab({
      script: 'cli/demo/in-lab.js',
      args: [machine],
      results,
      guests: [guest],
      timeoutSeconds: 900,
      onOutput: (chunk) => process.stdout.write(chunk),
      progress: say,
    });
    if (!existsSync(join(results, 'report.json'))) {
      throw new OperatorError('DEMO_FAILED', 'the demo ended without a report', `see the logs in ${results}`);
    }
    const report = JSON.parse(readFileSync(join(results, 'report.json'), 'utf8')) as Report;
    ok = report.ok;
    return report;
  } finally {
    if (ok) rmSync(results, { recursive: true });
    else say(`logs of the failed run: ${results}`);
  }
}

/** The lab's software CPU now and then is the end of the lab host's kernel (docs/decisions/0007): once more then. */
async function inLivingLab(job: HostJob): Promise<void> {
  try {
    await runInLab(job);
  } catch (error) {
    if (!(error instanceof OperatorError) || error.code !== 'LAB_PANIC') throw error;
    say(`${error.line}: it is run again`);
    await runInLab(job);
  }
}

const zero = Date.now();

function say(line: string): void {
  process.stdout.write(`[${((Date.now() - zero) / 1000).toFixed(0).padStart(3)} s] ${line}\n`);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof OperatorError)) throw error;
  process.stderr.write(`xenshim demo: ${error.line}\n`);
  process.exitCode = error.exitStatus;
}
