/** Every named number against the public headers. */
import test from 'ava';
import type { ConstantsInfo } from '../../shim/abi/constants.js';
import { compile, unavailable, type Expression } from './compiler.js';
import { allTables, groupBy } from './tables.js';
import { newer, unregistered } from './unregistered.js';

const { constants } = await allTables();
const reason = unavailable();
if (reason !== undefined) console.log(`C oracle skipped: ${reason}`);
const oracle = reason === undefined ? test : test.skip;

/** What the headers say of these names. Throws when there is no such name. */
const ask = (header: string, names: readonly string[]): readonly bigint[] =>
  compile('x86_64', ['xen.h', header], [], names.map((name): Expression => ({ name, c: name }))).values;

/** Differences between constants and the header, a line each. */
function differences(header: string, groups: readonly ConstantsInfo[]): string[] {
  const ours = groups.flatMap(({ prefix, values }) =>
    Object.entries(values).map(([key, value]) => ({ name: `${prefix}${key}`, value: BigInt.asIntN(64, BigInt(value)) })),
  );
  const present = ours.filter(({ name }) => !newer.has(name) || exists(header, name));
  const theirs = ask(header, present.map(({ name }) => name));
  return present.flatMap(({ name, value }, i) =>
    theirs[i] === value ? [] : [`${name} is ${theirs[i]}, the table says ${value}`],
  );
}

function exists(header: string, name: string): boolean {
  try {
    ask(header, [name]);
    return true;
  } catch {
    return false;
  }
}

for (const [header, groups] of groupBy([...constants, ...unregistered], (group) => group.header)) {
  oracle(`the constants of ${header} have the header's values`, (t) => {
    t.deepEqual(differences(header, groups), []);
  });
}

oracle('a wrong value is reported, a name the header does not have is an error', (t) => {
  const group = { header: 'grant_table.h', prefix: 'GNTST_', values: { okay: 0, bad_gntref: -4 } };
  t.deepEqual(differences(group.header, [group]), ['GNTST_bad_gntref is -3, the table says -4']);
  t.throws(() => differences(group.header, [{ ...group, values: { nonsense: 0 } }]), { message: /GNTST_nonsense/ });
});
