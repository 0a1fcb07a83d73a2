import test from 'ava';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';

const root = new URL('../../../', import.meta.url);
const page = readFileSync(new URL('docs/architecture.md', root), 'utf8');
const isFolder = (path: string): boolean => statSync(new URL(path, root), { throwIfNoEntry: false })?.isDirectory() === true;

/** Everything on the page that begins with a folder of the tree; in the diagram as well. */
function paths(text: string): string[] {
  const found = text.matchAll(/(?:kvm|shim|backends|cli|vm-images|test|docs)\/[\w./-]*/g);
  return [...new Set([...found].map(([path]) => path.replace(/[.]$/, '')))];
}

test('every path on the architecture page exists', (t) => {
  const named = paths(page);
  t.true(named.length > 25);
  for (const path of named) t.true(existsSync(new URL(path, root)), path);
});

test('the architecture page has one diagram and names every folder of the import order', (t) => {
  t.is(page.match(/^```/gm)?.length, 2);
  for (const folder of ['kvm/', 'shim/', 'backends/', 'cli/', 'vm-images/', 'test/']) t.true(page.includes(folder), folder);
});

test('every folder of the shim is on the architecture page', (t) => {
  for (const name of readdirSync(new URL('shim/', root))) {
    if (isFolder(`shim/${name}`)) t.true(page.includes(`shim/${name}/`), name);
  }
});

test('decisions are numbered without gaps and have context, decision and consequence', (t) => {
  const names = readdirSync(new URL('docs/decisions/', root)).sort();
  t.true(names.length > 5);
  names.forEach((name, index) => {
    t.true(name.startsWith(`${String(index + 1).padStart(4, '0')}-`), name);
    const text = readFileSync(new URL(`docs/decisions/${name}`, root), 'utf8');
    for (const part of ['# ', '## Context', '## Decision', '## Consequence']) t.true(text.includes(part), `${name}: ${part}`);
    for (const path of paths(text)) t.true(existsSync(new URL(path, root)), `${name}: ${path}`);
  });
});
