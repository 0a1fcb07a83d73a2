#!/usr/bin/env node
// The command. Everything is compiled into dist/ and bundled there; this only finds it.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const bundle = fileURLToPath(new URL('../dist/bundle/xenshim.js', import.meta.url));
if (!existsSync(bundle)) {
  process.stderr.write('xenshim is not built: run `npm install && npm run build` in its folder first\n');
  process.exit(2);
}
const { main } = createRequire(import.meta.url)(bundle);
process.exitCode = await main(process.argv.slice(2));
