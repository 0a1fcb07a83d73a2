/** Every layout table against the public headers. Hand-written offsets rot; the compiler does not forget. */
import test from 'ava';
import type { StructInfo } from '../../shim/abi/struct.js';
import { differences, uncovered } from './compare.js';
import { unavailable, type Machine } from './compiler.js';
import type { LeafMember } from './dwarf.js';
import { allTables, groupBy } from './tables.js';

const { layouts } = await allTables();
const reason = unavailable();
if (reason !== undefined) console.log(`C oracle skipped: ${reason}`);
const oracle = reason === undefined ? test : test.skip;

for (const [header, tables] of groupBy(layouts, (table) => table.header)) {
  for (const machine of ['x86_64', 'x86_32'] as const satisfies Machine[]) {
    const concerned = tables.filter((table) => table.abi === 'any' || table.abi === machine);
    if (concerned.length === 0) continue;
    oracle(`${concerned.length} structures of ${header} are laid out as the ${machine} compiler does`, (t) => {
      t.deepEqual(differences(header, concerned, machine), []);
    });
  }
}

test('there are tables to compare', (t) => {
  t.true(layouts.length > 0);
});

const right: StructInfo = {
  c: 'struct gnttab_set_version',
  header: 'grant_table.h',
  abi: 'any',
  size: 4,
  fields: { version: { at: 0, size: 4, signed: false } },
  members: {},
};

oracle('a wrong size, offset, width or sign in a table is reported', (t) => {
  const wrong = { ...right, size: 8, fields: { version: { at: 2, size: 2, signed: true } } };
  t.deepEqual(differences(right.header, [right], 'x86_32'), []);
  t.deepEqual(differences(right.header, [wrong], 'x86_64'), [
    'struct gnttab_set_version: size is 4, the table says 8',
    'struct gnttab_set_version: offset of version is 0, the table says 2',
    'struct gnttab_set_version: size of version is 4, the table says 2',
    'struct gnttab_set_version: signedness of version is 0, the table says 1',
  ]);
});

oracle('a member the table leaves out is reported, inside unions and nested structures too', (t) => {
  const table: StructInfo = {
    c: 'struct gnttab_copy',
    header: 'grant_table.h',
    abi: 'x86_64',
    size: 40,
    fields: {
      source: { at: 0, size: 16, signed: false },
      ref: { at: 16, size: 4, signed: false },
      len: { at: 32, size: 2, signed: false },
      status: { at: 36, size: 2, signed: true },
    },
    members: { ref: 'dest.u.ref' },
  };
  t.deepEqual(differences(table.header, [table], 'x86_64'), [
    'struct gnttab_copy: member dest.u.gmfn is missing in the table',
    'struct gnttab_copy: member dest.domid is missing in the table',
    'struct gnttab_copy: member dest.offset is missing in the table',
    'struct gnttab_copy: member flags is missing in the table',
  ]);
});

oracle('a structure or member the header does not have is an error that names it', (t) => {
  t.throws(() => differences(right.header, [{ ...right, c: 'struct no_such' }], 'x86_64'), { message: /no_such/ });
  const members = { version: 'vesrion' };
  t.throws(() => differences(right.header, [{ ...right, members }], 'x86_64'), { message: /vesrion/ });
});

test('padding and alternatives whose bytes are known may be left out, an element stands for its array', (t) => {
  const table: StructInfo = {
    ...right,
    fields: { first: { at: 0, size: 4, signed: false } },
    members: { first: 'seg[0].gref' },
  };
  const leaf = (path: string, size: number, alternative = false): LeafMember => ({ path, at: 0, size, alternative });
  const leaves = ['seg', 'pad', '_pad1', 'u._pad', 'padlock.count'].map((path) => leaf(path, 4));
  t.deepEqual(uncovered(table, leaves), ['padlock.count']);
  t.deepEqual(uncovered(table, [leaf('u.same', 4, true), leaf('u.longer', 8, true)]), ['u.longer']);
});
