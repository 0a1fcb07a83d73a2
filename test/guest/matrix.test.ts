/**
 * The usual guests of vm-images/manifest.toml, with XENSHIM_ALL_GUESTS=1 all of them, on this machine's KVM or in the lab.
 * They run once, before the first test; each test then looks at one step of one row.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { chooseHost } from '../../cli/demo/host.js';
import { loadManifest } from '../../vm-images/manifest.js';
import { resultTable, type RowResult } from './matrix/result.js';
import { rowName, selectRows } from './matrix/rows.js';
import { runMatrix } from './matrix/run-matrix.js';
import { isVersion } from './matrix/run-row.js';

const choice = chooseHost();
const rows = selectRows(loadManifest(), {
  all: process.env['XENSHIM_ALL_GUESTS'] === '1', native: choice.kind === 'native',
});
const results = mkdtempSync(join(tmpdir(), 'xenshim-guests-'));
let found: readonly RowResult[] = [];

test.before('the guests run', async (t) => {
  t.timeout(60_000 * (10 + rows.reduce((sum, { entry }) => sum + entry.minutes, 0)));
  const say = (line: string): void => void process.stderr.write(`  ${line}\n`);
  say(choice.why);
  found = await runMatrix(rows, results, say);
  process.stderr.write(`\n${resultTable(found)}\n`);
});

test.after.always('the logs of failed guests stay', () => {
  if (found.length > 0 && found.every(({ ok }) => ok)) rmSync(results, { recursive: true, force: true });
  else process.stderr.write(`  consoles, logs and xenstores: ${results}\n`);
});

rows.forEach((row, index) => {
  const { entry, course, machine, host } = row;
  const title = `${entry.title} (${rowName(row)}: ${machine}, ${entry.memory} MiB, ${entry.vcpus} vCPUs, host ${host})`;
  for (const name of row.steps) {
    test(`${title}: ${course.titles[name]}`, (t) => {
      const step = found[index]?.steps.find((each) => each.name === name);
      if (step?.ok !== true) {
        t.fail(step?.detail ?? 'the guests were not run');
        return;
      }
      t.log(`${step.detail} (${step.seconds} s)`);
      t.pass();
    });
  }
  test(`${title}: is version ${entry.kernel}`, (t) => {
    t.true(isVersion(found[index]?.kernel ?? '', entry.kernel), `it is ${found[index]?.kernel}`);
  });
});
