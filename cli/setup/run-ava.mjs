// Runs ava on some of the compiled tests: failures and skipped tests are shown at once, what passes as a count.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { TapReader } from './tap.mjs';
import { root } from './steps.mjs';

const PROGRESS_MS = 10_000;

/** @param every true: show each test that passes, too. @returns the counts */
export function runAva(title, patterns, { options = [], every = false } = {}) {
  const say = (line) => process.stdout.write(`${line}\n`);
  const reader = new TapReader(({ ok, skipped, title: test, details }) => {
    if (!ok) say([`  FAILED  ${test}`, ...details].join('\n'));
    else if (skipped) say(`  skipped ${test}`);
    else if (every) say(`  passed  ${test}`);
  });
  const started = Date.now();
  const passedSoFar = () => {
    say(`  ${title}: ${reader.passed} passed after ${((Date.now() - started) / 1000).toFixed(0)} s`);
  };
  return new Promise((resolve, reject) => {
    say(`${title}:`);
    const ava = join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');
    const child = spawn(process.execPath, [ava, '--tap', ...options, ...patterns], {
      cwd: root, stdio: ['ignore', 'pipe', 'inherit'],
    });
    const timer = setInterval(passedSoFar, PROGRESS_MS);
    child.stdout.setEncoding('utf8').on('data', (chunk) => reader.push(chunk));
    child.once('error', reject);
    child.once('close', (status) => {
      clearInterval(timer);
      reader.end(status);
      passedSoFar();
      resolve({ passed: reader.passed, failed: reader.failed, skipped: reader.skipped });
    });
  });
}
