// What has to be made anew: npm packages, the native part, the compiled TypeScript.
import { existsSync, lstatSync, readFileSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './steps.mjs';

const sources = ['kvm', 'shim', 'backends', 'cli', 'test', 'vm-images', 'docs'];

/** All files below a folder, without kvm/build. */
function* files(folder) {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (!entry.isDirectory()) yield path;
    else if (path !== join('kvm', 'build')) yield* files(path);
  }
}

const changed = (path) => (existsSync(join(root, path)) ? statSync(join(root, path)).mtimeMs : 0);
const newest = (paths) => Math.max(0, ...paths.map(changed));

/** Marks what was just made as newer than all it was made from. */
export function touch(paths) {
  const now = new Date();
  for (const path of paths) utimesSync(join(root, path), now, now);
}

/** Whether node_modules holds other packages than package-lock.json asks for. */
export function packagesStale() {
  const installed = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) return true;
  const { packages: have } = JSON.parse(readFileSync(installed, 'utf8'));
  const { packages: want } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(want).some(([path, { version, optional }]) =>
    path !== '' && optional !== true && have[path]?.version !== version);
}

/** node_modules that belong to another checkout are not ours to replace. */
export function packagesLinked() {
  return lstatSync(join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

export const nativeOutputs = ['kvm/build/Release/xenshim_native.node', 'kvm/build/Release/xenshim_plugin.so'];

export function nativeStale() {
  const inputs = [...files('kvm'), ...files('shim')].filter((path) => /\.(cc|h|gyp)$/.test(path));
  return Math.min(...nativeOutputs.map(changed)) < newest(inputs);
}

export const buildInfo = 'dist/.compiled';

const compilers = ['compile', 'fold-constants', 'bundle'].map((name) => `cli/setup/${name}.mjs`);

export function compiledStale() {
  const inputs = sources.flatMap((folder) => [...files(folder)]).filter((path) => path.endsWith('.ts'));
  return changed(buildInfo) < newest([...inputs, 'tsconfig.json', 'package-lock.json', ...compilers]);
}

/** Compiled files whose source is gone would still be run as tests. */
export function removeOrphans() {
  if (!existsSync(join(root, 'dist'))) return;
  for (const path of files('dist')) {
    if (path.startsWith('dist/bundle/')) continue;
    const source = path.replace(/^dist\//, '').replace(/\.js(\.map)?$/, '.ts');
    if (/\.js(\.map)?$/.test(path) && !existsSync(join(root, source))) rmSync(join(root, path));
  }
}
