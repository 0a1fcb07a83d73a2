import test from 'ava';
import { existsSync, readFileSync } from 'node:fs';

import * as kit from 'xenshim/backend-kit';

const docs = new URL('../../../docs/', import.meta.url);
const page = readFileSync(new URL('writing-a-backend.md', docs), 'utf8');
const source = readFileSync(new URL('../shim/backend-kit.ts', docs), 'utf8');

test('every file that writing-a-backend.md links to or names exists', (t) => {
  const links = [...page.matchAll(/\]\(([^)]+)\)/g)].map(([, path]) => new URL(path!, docs));
  const named = [...page.matchAll(/`((?:backends|shim|test)\/[^`]+)`/g)].map(([, path]) => new URL(`../${path!}`, docs));
  t.true(links.length > 2 && named.length > 1);
  for (const path of [...links, ...named]) t.true(existsSync(path), path.pathname);
});

test('every name of the kit that writing-a-backend.md uses is in the kit', (t) => {
  // In code, what begins with a capital is a type or a class; functions are called or named with the others.
  const names = [...page.matchAll(/`([A-Z][A-Za-z]+)`/g)].map(([, name]) => name!);
  t.true(new Set(names).size > 8);
  for (const name of new Set(names)) if (name !== 'Closing' && name !== 'InitWait') t.regex(source, new RegExp(`\\b${name}\\b`), name);
  for (const name of ['createDevice', 'nextVbd', 'ringPages', 'signalEventfd', 'watchReadable', 'drainEventfd', 'attachGuest']) {
    t.true(page.includes(name), name);
    t.is(typeof (kit as Readonly<Record<string, unknown>>)[name], 'function', name);
  }
});
