import test from 'ava';
import { readFileSync } from 'node:fs';
import { supportTable, withSupportTable } from '../../cli/docs/support-table.js';
import { commands } from '../../cli/commands.js';
import { RUN_USAGE } from '../../cli/run/options.js';
import { OLDEST } from '../../cli/qemu/program.js';
import { supportMatrix } from '../../shim/hypercall/table.js';

const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
const manifest = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  scripts: Record<string, string>;
};

test('the support matrix in the README is what the hypercall table says (npm run docs brings it up to date)', (t) => {
  t.is(withSupportTable(readme), readme);
});

test('every operation of the hypercall table stands in the matrix once, and each refusal gives its reason', (t) => {
  const rows = supportTable().split('\n');
  for (const { hypercall, number, operation, refused } of supportMatrix()) {
    const call = `| \`${hypercall}\` (${number}) |`;
    const cell = operation === undefined ? (refused ? 'all of it' : 'yes') : `\`${operation}\``;
    const found = rows.filter((row) => row.startsWith(call) && row.split(/[|,]/).some((each) => each.trim() === cell));
    t.is(found.length, 1, `${hypercall} ${operation ?? ''}`);
    t.is(found[0]!.includes(refused?.reason ?? '| Why'), refused !== undefined);
  }
});

test('a README without its markers is refused', (t) => {
  t.throws(() => withSupportTable('# xenshim\n'), { message: /npm run docs/ });
});

test('the README names every command and every option of xenshim run, and none that is not there', (t) => {
  for (const name of Object.keys(commands)) t.true(readme.includes(`xenshim ${name}`), name);
  // In code, the word after the program is a command.
  const code = [...readme.matchAll(/^```sh\n([^]*?)^```|`(xenshim [^`]*)`/gm)].map(([, block, inline]) => block ?? inline!);
  for (const text of code) {
    for (const [, name] of text.matchAll(/^xenshim (\S+)/gm)) t.true(Object.hasOwn(commands, name!), name);
  }
  const options = [...RUN_USAGE.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, option]) => option!);
  t.true(options.length >= 6);
  for (const option of options) t.true(readme.includes(option), option);
});

test('the npm commands the README gives exist', (t) => {
  const named = [...readme.matchAll(/npm run ([a-z:]+)/g)].map(([, script]) => script!);
  t.true(named.includes('demo'));
  for (const script of named) t.true(Object.hasOwn(manifest.scripts, script), script);
});

test('the oldest QEMU in the README is the one the program checks for', (t) => {
  t.true(readme.includes(`QEMU ${OLDEST.join('.')} or newer`));
});

test('files the README links to exist', (t) => {
  const links = [...readme.matchAll(/\]\((?!https?:|#)([^)#]+)\)/g)].map(([, path]) => path!);
  t.true(links.length > 2);
  for (const path of links) t.notThrows(() => readFileSync(new URL(`../../../${path}`, import.meta.url)), path);
});
