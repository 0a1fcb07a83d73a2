// `npm run build`: tsc by its interface, with constants folded on the way (fold-constants.mjs). A change of a constant
// changes the files that use it, which tsc's incremental build does not know: everything is compiled each time.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { bundle } from './bundle.mjs';
import { foldConstants } from './fold-constants.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

const host = {
  getCanonicalFileName: (name) => name,
  getCurrentDirectory: () => process.cwd(),
  getNewLine: () => '\n',
};

const parsed = ts.getParsedCommandLineOfConfigFile(join(root, 'tsconfig.json'), {}, {
  ...ts.sys,
  onUnRecoverableConfigFileDiagnostic(diagnostic) {
    process.stderr.write(ts.formatDiagnostic(diagnostic, host));
    process.exit(1);
  },
});
const program = ts.createProgram(parsed.fileNames, parsed.options);
const found = [...parsed.errors, ...ts.getPreEmitDiagnostics(program)];
const emitted = program.emit(undefined, undefined, undefined, false, { before: [foldConstants(program)] });
const problems = ts.sortAndDeduplicateDiagnostics([...found, ...emitted.diagnostics]);
process.stderr.write(process.stderr.isTTY ? ts.formatDiagnosticsWithColorAndContext(problems, host) : ts.formatDiagnostics(problems, host));
if (problems.length > 0) process.exit(1);
await bundle(root);
const stamp = join(root, 'dist/.compiled');
mkdirSync(dirname(stamp), { recursive: true });
writeFileSync(stamp, '');
