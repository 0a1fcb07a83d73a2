// Steps of the preparation: one line each, with how long it took; what a program says is shown only when it fails.
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The project's folder. */
export const root = fileURLToPath(new URL('../../', import.meta.url));

/** Ends the preparation with a message for people and exit status 2. */
export class CannotPrepare extends Error {}

const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

/** Prints `title … 3.2 s` around `work`. */
export async function step(title, work) {
  const started = Date.now();
  process.stdout.write(`${title} … `);
  try {
    const result = await work();
    process.stdout.write(`${seconds(started)}\n`);
    return result;
  } catch (error) {
    process.stdout.write(`failed after ${seconds(started)}\n`);
    throw error;
  }
}

/** Whether a program can be run at all. */
export function works(program, args) {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
}

/** Runs a program quietly in the project's folder. @throws CannotPrepare with its last lines when it fails */
export function quietly(program, args, { env = {}, hint = '' } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    const listen = (chunk) => {
      said = (said + chunk).slice(-20_000);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.once('error', (error) => reject(new CannotPrepare(`${program}: ${error.message}`)));
    child.once('close', (status) => {
      if (status === 0) return resolve();
      const last = said.trimEnd().split('\n').slice(-40).join('\n');
      return reject(new CannotPrepare(`${last}\n\n\`${program} ${args.join(' ')}\` failed${hint && `: ${hint}`}`));
    });
  });
}

/** Runs a program with our own streams; resolves to its exit status (128 and the number for a signal's end). */
export function openly(program, args, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, env: { ...process.env, ...env }, stdio: 'inherit' });
    child.once('error', reject);
    child.once('close', (status, signal) => resolve(status ?? (signal === 'SIGINT' ? 130 : 143)));
  });
}
