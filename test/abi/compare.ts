/** Compares layout tables with the compiler's view of the headers, in both directions. */
import type { StructInfo } from '../../shim/abi/struct.js';
import { compile, type Expression, type Machine } from './compiler.js';
import { DebugInfo, type LeafMember } from './dwarf.js';

/** Included before the header in question: what the io/ headers expect their user to have. */
const PRELUDE = ['xen.h', 'grant_table.h', 'event_channel.h'];

/** Members that only fill space, and the bytes a ring header leaves to its users, may be missing in a table. */
const PADDING = /(^|\.)_*(pad|rsvd|reserved|unused)\w*$|^pvt\./i;

/** What differs between the tables and the header under one ABI, a line each; empty when nothing does. */
export function differences(header: string, tables: readonly StructInfo[], machine: Machine): string[] {
  const declarations = tables.map((table, i) => `${table.c} oracle_${i};`);
  const { values, debugInfo } = compile(machine, [...PRELUDE, header], declarations, tables.flatMap(questions));
  const debug = new DebugInfo(debugInfo);
  const found: string[] = [];
  let next = 0;
  tables.forEach((table, i) => {
    const check = (what: string, ours: number): void => {
      const theirs = Number(values[next++]);
      if (theirs !== ours) found.push(`${table.c}: ${what} is ${theirs}, the table says ${ours}`);
    };
    check('size', table.size);
    for (const [key, field] of Object.entries(table.fields)) {
      const member = memberOf(table, key);
      check(`offset of ${member}`, field.at);
      check(`size of ${member}`, field.size);
      check(`signedness of ${member}`, field.signed ? 1 : 0);
    }
    for (const path of uncovered(table, debug.leaves(`oracle_${i}`))) {
      found.push(`${table.c}: member ${path} is missing in the table`);
    }
  });
  return found;
}

function questions(table: StructInfo): Expression[] {
  const name = `${table.c} (${table.header}, ${table.abi})`;
  const asked: Expression[] = [{ name, c: `sizeof(${table.c})` }];
  for (const key of Object.keys(table.fields)) {
    const member = memberOf(table, key);
    const value = `((${table.c} *)0)->${member}`;
    asked.push(
      { name, c: `__builtin_offsetof(${table.c}, ${member})` },
      { name, c: `sizeof(${value})` },
      { name, c: `IS_SIGNED(${value})` },
    );
  }
  return asked;
}

const memberOf = (table: StructInfo, key: string): string => table.members[key] ?? key;

/**
 * Members no field of the table names: neither itself, nor what it is part of, nor a part of it. An alternative of a
 * union may be left out when others have all its bytes.
 */
export function uncovered(table: StructInfo, leaves: readonly LeafMember[]): string[] {
  const named = Object.keys(table.fields).map((key) => memberOf(table, key));
  const known = new Set<number>();
  for (const { at, size } of Object.values(table.fields)) for (let i = 0; i < size; i++) known.add(at + i);
  return leaves
    .filter(({ path, at, size, alternative }) => {
      if (PADDING.test(path)) return false;
      if (alternative && Array.from({ length: size }, (_, i) => at + i).every((byte) => known.has(byte))) return false;
      return !named.some(
        (member) =>
          member === path ||
          path.startsWith(`${member}.`) ||
          member.startsWith(`${path}[`) ||
          member.startsWith(`${path}.`),
      );
    })
    .map(({ path }) => path);
}
