// The last step of `npm run build`: what the command runs, put together from dist/ into one file, and one for each
// thread of backends (docs/decisions/0022). Node takes longer to find and link a hundred modules than to run them.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

/** Tells where the threads' scripts are: of a bundle, below its folder `threads`. */
const SCRIPTS = join('backends', 'thread-scripts.js');

/** URL of the bundle itself, which CommonJS has no word for. */
const HERE = '__bundleUrl';

/** To each module, `import.meta.url` is its place in dist/ as before: from there it finds the addon, the plugin and packages. */
function places(dist, bundles, outfile) {
  const place = (path) => {
    const there = relative(dist, path) === SCRIPTS ? join(bundles, 'threads', SCRIPTS) : path;
    return `new URL(${JSON.stringify(relative(dirname(outfile), there))}, ${HERE}).href`;
  };
  return {
    name: 'places',
    setup({ onLoad }) {
      onLoad({ filter: /\.js$/ }, ({ path }) => {
        if (!path.startsWith(join(dist, '/'))) return undefined;
        return { contents: readFileSync(path, 'utf8').replaceAll('import.meta.url', place(path)) };
      });
    },
  };
}

/** pino's transports are threads, with helpers that are loaded even where there is no transport. */
const noTransports = {
  name: 'no-transports',
  setup({ onLoad }) {
    onLoad({ filter: /\/node_modules\/pino\/lib\/transport\.js$/ }, () => (
      { contents: "module.exports = () => { throw new Error('the bundle has no transports'); };" }));
  },
};

/** @param root the project's folder, with dist/ compiled. @throws when esbuild finds errors; it has printed them */
export async function bundle(root) {
  const dist = join(root, 'dist');
  const bundles = join(dist, 'bundle');
  const make = (outfile, input) => build({
    ...input,
    outfile,
    bundle: true,
    // CommonJS: reading an ES module takes Node a turn through its thread pool and a promise for each step.
    format: 'cjs',
    platform: 'node',
    target: 'node20.19',
    absWorkingDir: root,
    // Without its native half, which is looked for in many places, and pays for strings longer than ours.
    alias: { msgpackr: 'msgpackr/pack' },
    banner: { js: `const ${HERE} = require('node:url').pathToFileURL(__filename).href;` },
    plugins: [places(dist, bundles, outfile), noTransports],
    metafile: true,
    sourcemap: 'linked',
    logLevel: 'warning',
  });
  rmSync(bundles, { recursive: true, force: true });
  mkdirSync(bundles, { recursive: true });
  writeFileSync(join(bundles, 'package.json'), '{ "type": "commonjs" }\n');

  // One copy of each module for the command and for backends of others; what is required here is run when it is used.
  const both = "exports.main = (argv) => require('./cli/main.js').main(argv); exports.kit = () => require('./shim/backend-kit.js');";
  await make(join(bundles, 'xenshim.js'), { stdin: { contents: both, resolveDir: dist, sourcefile: 'bundle.js' } });
  await writeKit(join(dist, 'shim', 'backend-kit.js'), join(bundles, 'backend-kit.js'));

  const { threadNames, threadScript } = await import(pathToFileURL(join(dist, SCRIPTS)).href);
  const scripts = threadNames.map((name) => fileURLToPath(threadScript(name)));
  await Promise.all(scripts.map((script) => make(join(bundles, 'threads', relative(dist, script)), { entryPoints: [script] })));
}

/** What package.json exports: `xenshim/backend-kit`, out of the command's bundle. */
async function writeKit(source, outfile) {
  const { metafile } = await build({
    entryPoints: [source], bundle: true, format: 'esm', platform: 'node', write: false, metafile: true, outfile,
  });
  const [{ exports: names }] = Object.values(metafile.outputs);
  // The second line is never run: it is how Node finds the names that an `import` may ask for.
  writeFileSync(outfile, `module.exports = require('./xenshim.js').kit();\n0 && (module.exports = { ${names.join(', ')} });\n`);
}
