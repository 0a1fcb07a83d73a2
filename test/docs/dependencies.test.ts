import test from 'ava';
import { readdirSync, readFileSync } from 'node:fs';

const root = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');

interface Manifest {
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
}
interface Lock {
  packages: Record<string, Manifest & { resolved?: string; integrity?: string }>;
}

const manifest = JSON.parse(read('package.json')) as Manifest;
const lock = JSON.parse(read('package-lock.json')) as Lock;

/** Text of everything that is ours and may name a package. */
const sources = ['kvm', 'shim', 'backends', 'cli', 'vm-images', 'test']
  .flatMap((folder) => readdirSync(new URL(`${folder}/`, root), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|mjs|gyp)$/.test(name) && !name.startsWith('build/'))
    .map((name) => read(`${folder}/${name}`)));

test('every dependency is used: imported or required, or by the native build', (t) => {
  for (const name of Object.keys(manifest.dependencies)) {
    const quoted = new RegExp(`(from |require\\(\\\\?)['"]${name}\\\\?['"]`);
    t.true(sources.some((text) => quoted.test(text)), name);
  }
});

test('the lock asks for what package.json asks for', (t) => {
  t.deepEqual(lock.packages['']!.dependencies, manifest.dependencies);
  t.deepEqual(lock.packages['']!.devDependencies, manifest.devDependencies);
});

test('the lock names no registry but the public one, and has a checksum for every package', (t) => {
  for (const [path, { resolved, integrity }] of Object.entries(lock.packages)) {
    if (path === '') continue;
    t.true(resolved === undefined || resolved.startsWith('https://registry.npmjs.org/'), path);
    t.regex(integrity ?? '', /^sha512-/, path);
  }
});
