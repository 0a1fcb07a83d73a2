// Runs ava on some of the compiled tests: failures and skipped tests are shown at once, what passes as a count. A file
// that hangs is ended and has failed; the others go on. (ava's own timeout is out of the way: its TAP reporter crashes
// when it strikes, https://github.com/avajs/ava/issues/3461.)
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { end, testProcesses } from './stuck.mjs';
import { TapReader } from './tap.mjs';
import { root } from './steps.mjs';

const PROGRESS_MS = 10_000;
const QUIET_MS = 150_000;

/**
 * @param options further options for ava
 * @param every true: show each test that passes, too
 * @param quiet ms without a result after which the files that run are taken to hang
 * @returns the counts
 */
export function runAva(title, patterns, { options = [], every = false, quiet = QUIET_MS } = {}) {
  const say = (line) => process.stdout.write(`${line}\n`);
  let lastResult = Date.now();
  const reader = new TapReader(({ ok, skipped, title: test, details }) => {
    lastResult = Date.now();
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
    // A process group of its own, so that nothing outlives it.
    const child = spawn(process.execPath, [ava, '--tap', '--timeout=24h', ...options, ...patterns], {
      cwd: root, stdio: ['ignore', 'pipe', 'inherit'], detached: true,
    });
    let hung = 0;
    const endWhatHangs = () => {
      if (Date.now() - lastResult < quiet) return;
      lastResult = Date.now();
      const stuck = testProcesses(child.pid);
      hung += Math.max(1, stuck.length);
      for (const { pid, file } of stuck) {
        say(`  FAILED  ${file}: no result for ${quiet / 1000} s, ended`);
        end(pid);
      }
      if (stuck.length > 0) return;
      say(`  FAILED  ${title}: no result for ${quiet / 1000} s, ended`);
      end(-child.pid);
    };
    const interrupted = (signal) => {
      end(-child.pid);
      process.exit(signal === 'SIGINT' ? 130 : 143);
    };
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, interrupted);
    const timer = setInterval(() => {
      passedSoFar();
      endWhatHangs();
    }, PROGRESS_MS);
    child.stdout.setEncoding('utf8').on('data', (chunk) => reader.push(chunk));
    child.once('error', reject);
    child.once('exit', () => end(-child.pid));
    child.once('close', (status) => {
      clearInterval(timer);
      for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, interrupted);
      reader.end(status);
      passedSoFar();
      resolve({ passed: reader.passed, failed: Math.max(reader.failed, hung), skipped: reader.skipped });
    });
  });
}
