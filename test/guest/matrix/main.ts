/** `npm run test:guests`: boots the guests of vm-images/manifest.toml and says what each showed. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { kvmMode, probeKvm } from '../../../cli/check/kvm.js';
import { chooseHost } from '../../../cli/demo/host.js';
import { parseOptions } from '../../../cli/arguments.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { loadManifest } from '../../../vm-images/manifest.js';
import { failures, junit, resultTable } from './result.js';
import { NATIVE, selectRows } from './rows.js';
import { runMatrix } from './run-matrix.js';

const usage = `usage: npm run test:guests -- [options]

Boots guests under xenshim and says what each showed; without options the usual ones, which npm test boots, too.
  --guest NAME     that guest of vm-images/manifest.toml; repeatable
  --host NAME      on that lab host, or on this machine's KVM (native); repeatable
  --machine TYPE   only machine type pc or q35
  --all            all guests
  --json FILE      the results as JSON
  --junit FILE     the results as JUnit XML
  --results DIR    where each run's console, log and xenstore go (a new folder in ${tmpdir()})
  --help           this text

The exit status is 0 when all rows passed, 1 when one did not, 2 when an option or the manifest is wrong.
`;

async function main(): Promise<number> {
  const { values } = parseOptions('test:guests', {
    options: {
      guest: { type: 'string', multiple: true },
      host: { type: 'string', multiple: true },
      machine: { type: 'string', multiple: true },
      all: { type: 'boolean', default: false },
      json: { type: 'string' },
      junit: { type: 'string' },
      results: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  }, 'npm run test:guests -- --help');
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const choice = chooseHost();
  const rows = selectRows(loadManifest(), {
    guests: values.guest, hosts: values.host, machines: values.machine, all: values.all, native: choice.kind === 'native',
  });
  if (values.host === undefined) say(choice.why);
  else if (values.host.includes(NATIVE)) mustServe();
  const results = resolve(values.results ?? mkdtempSync(join(tmpdir(), 'xenshim-guests-')));
  mkdirSync(results, { recursive: true });
  const found = await runMatrix(rows, results, say);
  process.stdout.write(`\n${resultTable(found)}\n`);
  for (const line of failures(found)) process.stdout.write(`${line}\n`);
  if (values.json !== undefined) write(values.json, `${JSON.stringify(found, null, 2)}\n`);
  if (values.junit !== undefined) write(values.junit, junit(found));
  process.stdout.write(`consoles, logs and xenstores: ${results}\n`);
  return found.every(({ ok }) => ok) ? 0 : 1;
}

/** @throws OperatorError when guests cannot run on this machine itself */
function mustServe(): void {
  kvmMode(probeKvm());
  if (process.getuid?.() !== 0) throw new OperatorError('NOT_ROOT', '--host native makes taps, which takes root', 'run it with sudo');
}

function write(file: string, text: string): void {
  mkdirSync(dirname(resolve(file)), { recursive: true });
  writeFileSync(file, text);
}

const zero = Date.now();

function say(line: string): void {
  process.stdout.write(`[${((Date.now() - zero) / 1000).toFixed(0).padStart(4)} s] ${line}\n`);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof OperatorError)) throw error;
  process.stderr.write(`test:guests: ${error.line}\n`);
  process.exitCode = error.exitStatus;
}
