import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';

const { bundle } = (await import(new URL('../../../../cli/setup/bundle.mjs', import.meta.url).href)) as {
  bundle(root: string): Promise<void>;
};

/** A compiled project in small. */
const FILES = {
  'package.json': '{ "type": "module" }',
  'dist/cli/main.js': `
    import { Mistake, mistakes } from '../shim/errors.js';
    import { threadScript } from '../backends/thread-scripts.js';
    export const main = async (path) => {
      const { late } = await import('./late.js');
      const other = await import(path);
      return { own: other.made instanceof Mistake, mistakes, place: import.meta.url, late, thread: threadScript('disk').href };
    };`,
  'dist/cli/late.js': "export const late = import.meta.url; globalThis.bundleTest = 'late';",
  'dist/shim/errors.js': 'export let mistakes = 0; export class Mistake extends Error { constructor() { super(); mistakes++; } }',
  'dist/shim/backend-kit.js': "export { Mistake } from './errors.js';",
  'dist/backends/thread-scripts.js': `
    export const threadNames = ['disk'];
    export const threadScript = () => new URL('./block/worker.js', import.meta.url);`,
  'dist/backends/block/worker.js': "import { Mistake } from '../../shim/errors.js'; export const here = [new Mistake().name, import.meta.url];",
  'backend.mjs': "import { Mistake } from './dist/bundle/backend-kit.js'; export const made = new Mistake();",
};

const root = realpathSync(mkdtempSync(join(tmpdir(), 'xenshim-bundle-')));
for (const [name, text] of Object.entries(FILES)) {
  mkdirSync(dirname(join(root, name)), { recursive: true });
  writeFileSync(join(root, name), text);
}
await bundle(root);
test.after.always(() => {
  rmSync(root, { recursive: true });
});

const require = createRequire(import.meta.url);
const inDist = (path: string): string => pathToFileURL(join(root, 'dist', path)).href;

test('modules keep their places, threads are found in the bundle, and a backend has the same modules as the command', async (t) => {
  const { main } = require(join(root, 'dist/bundle/xenshim.js')) as { main(path: string): Promise<unknown> };
  t.is((globalThis as { bundleTest?: string }).bundleTest, undefined, 'what is imported late is run late');
  t.deepEqual(await main(join(root, 'backend.mjs')), {
    own: true,
    mistakes: 1,
    place: inDist('cli/main.js'),
    late: inDist('cli/late.js'),
    thread: inDist('bundle/threads/backends/block/worker.js'),
  });
});

test('a thread is one file, whose modules keep their places', (t) => {
  const { here } = require(join(root, 'dist/bundle/threads/backends/block/worker.js')) as { here: unknown };
  t.deepEqual(here, ['Error', inDist('backends/block/worker.js')]);
});
