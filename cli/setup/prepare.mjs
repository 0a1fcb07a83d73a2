// Makes a clone ready to run: Debian packages, npm packages, native part, compiled TypeScript. Runs before anything is
// installed, so it uses nothing but Node itself.
import { installPackages, needs } from './packages.mjs';
import {
  buildInfo, compiledStale, nativeOutputs, nativeStale, packagesLinked, packagesStale, removeOrphans, touch,
} from './stale.mjs';
import { CannotPrepare, quietly, step } from './steps.mjs';

const OLDEST_NODE = [20, 19];

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    throw new CannotPrepare(`this is Node ${process.versions.node}: use Node ${OLDEST_NODE.join('.')} or newer`);
  }
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new CannotPrepare(`this is ${process.platform} on ${process.arch}: xenshim needs Linux on x86-64`);
  }
}

const npm = (args, hint) => quietly('npm', args, { hint });

async function installNpmPackages() {
  if (!packagesStale()) return;
  if (packagesLinked()) throw new CannotPrepare('node_modules is a link, and not what package-lock.json asks for');
  await step('npm packages', () => npm(['ci', '--no-audit', '--no-fund'], 'npm packages could not be installed'));
}

async function buildNative() {
  if (!nativeStale()) return;
  await step('native part', () => npm(['run', 'build:native'], 'the native part could not be built'));
  touch(nativeOutputs);
}

async function compile() {
  removeOrphans();
  if (!compiledStale()) return;
  await step('TypeScript', () => npm(['run', 'build'], 'the TypeScript does not compile'));
  touch([buildInfo]);
}

/** @param {'demo' | 'test'} purpose */
export async function prepare(purpose) {
  checkNode();
  await installPackages(needs[purpose]);
  await installNpmPackages();
  await buildNative();
  await compile();
}

/** Prepares, then runs `main`; a failed preparation is a message and exit status 2. */
export async function prepared(purpose, main) {
  try {
    await prepare(purpose);
  } catch (error) {
    if (!(error instanceof CannotPrepare)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
    return;
  }
  process.exitCode = await main();
}
