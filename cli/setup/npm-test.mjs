// `npm test`: prepares the clone, then lint, unit tests and guest tests. The last line is the sum of all tests.
// XENSHIM_SKIP_GUESTS=1 leaves the guest tests out: each of their files then counts as one skipped test.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { prepared } from './prepare.mjs';
import { runAva } from './run-ava.mjs';
import { openly, root } from './steps.mjs';
import { summary } from './tap.mjs';

const UNIT = ['dist/test/!(guest)/**/*.test.js'];
const GUESTS = 'dist/test/guest';
// All guests run before the first result; what hangs among them is ended by the runner's own limits.
const GUESTS_QUIET_MS = 10_800_000;

function guestFiles() {
  const folder = join(root, GUESTS);
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.test.js'));
}

async function lint() {
  process.stdout.write('lint:\n');
  const failed = (await openly('npm', ['run', '--silent', 'lint'])) === 0 ? 0 : 1;
  return { passed: 0, failed, skipped: 0 };
}

async function guests() {
  const files = guestFiles();
  if (process.env.XENSHIM_SKIP_GUESTS === '1') {
    for (const file of files) process.stdout.write(`  skipped ${file}: XENSHIM_SKIP_GUESTS=1\n`);
    return { passed: 0, failed: 0, skipped: files.length };
  }
  // One after the other: each boots machines and takes the whole CPU; building their images may take minutes.
  const options = ['--serial', '--concurrency=1'];
  return runAva('guest tests', [`${GUESTS}/**/*.test.js`], { options, every: true, quiet: GUESTS_QUIET_MS });
}

await prepared('test', async () => {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const part of [lint, () => runAva('unit tests', UNIT), guests]) {
    const counts = await part();
    for (const key of Object.keys(total)) total[key] += counts[key];
  }
  process.stdout.write(`${summary(total)}\n`);
  return total.failed === 0 ? 0 : 1;
});
