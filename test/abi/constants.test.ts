/** Every named number against the public headers. */
import test from 'ava';
import type { ConstantsInfo } from '../../shim/abi/constants.js';
import { compile, unavailable, type Expression } from './compiler.js';
import { allTables, groupBy } from './tables.js';

const { constants } = await allTables();
const reason = unavailable();
if (reason !== undefined) console.log(`C oracle skipped: ${reason}`);
const oracle = reason === undefined ? test : test.skip;

/** Differences between registered constants and the header, a line each. */
function differences(header: string, groups: readonly ConstantsInfo[]): string[] {
  const asked: Expression[] = [];
  const ours: bigint[] = [];
  for (const { prefix, values } of groups) {
    for (const [key, value] of Object.entries(values)) {
      asked.push({ name: `${prefix}${key}`, c: `${prefix}${key}` });
      ours.push(BigInt.asIntN(64, BigInt(value)));
    }
  }
  const { values } = compile('x86_64', ['xen.h', header], [], asked);
  return asked.flatMap(({ name }, i) =>
    values[i] === ours[i] ? [] : [`${name} is ${values[i]}, the table says ${ours[i]}`],
  );
}

for (const [header, groups] of groupBy(constants, (group) => group.header)) {
  oracle(`the constants of ${header} have the header's values`, (t) => {
    t.deepEqual(differences(header, groups), []);
  });
}

oracle('a wrong value is reported, a name the header does not have is an error', (t) => {
  const group = { header: 'grant_table.h', prefix: 'GNTST_', values: { okay: 0, bad_gntref: -4 } };
  t.deepEqual(differences(group.header, [group]), ['GNTST_bad_gntref is -3, the table says -4']);
  t.throws(() => differences(group.header, [{ ...group, values: { nonsense: 0 } }]), { message: /GNTST_nonsense/ });
});
