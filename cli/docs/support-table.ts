/** The README's hypercall support matrix, as Markdown made from the hypercall table. */
import { Errno } from '../../shim/abi/errno.js';
import { supportMatrix, type SupportedCall } from '../../shim/hypercall/table.js';

const BEGIN = '<!-- hypercalls: written by `npm run docs` -->';
const END = '<!-- end of hypercalls -->';

const errnoName = (errno: number): string =>
  `-${Object.entries(Errno).find(([, value]) => value === errno)?.[0] ?? String(errno)}`;

const code = (text: string): string => `\`${text}\``;

/** Calls in the order of the table, each with its lines. */
function byCall(matrix: readonly SupportedCall[]): Map<string, SupportedCall[]> {
  const calls = new Map<string, SupportedCall[]>();
  for (const line of matrix) {
    const key = `${code(line.hypercall)} (${line.number})`;
    calls.set(key, [...(calls.get(key) ?? []), line]);
  }
  return calls;
}

/** Operations refused with the same error for the same reason share a line. */
function refusals(lines: readonly SupportedCall[]): string[] {
  const groups = new Map<string, string[]>();
  for (const { operation, refused } of lines) {
    if (refused === undefined) continue;
    const why = `${code(errnoName(refused.errno))} | ${refused.reason}`;
    groups.set(why, [...(groups.get(why) ?? []), operation === undefined ? 'all of it' : code(operation)]);
  }
  return [...groups].map(([why, operations]) => `${operations.join(', ')} | ${why} |`);
}

/** Two tables: what is answered, and what is refused on purpose. */
export function supportTable(matrix: readonly SupportedCall[] = supportMatrix()): string {
  const calls = [...byCall(matrix)];
  const answered = calls.flatMap(([call, lines]) => {
    const names = lines.filter(({ refused }) => refused === undefined).map(({ operation }) => operation);
    if (names.length === 0) return [];
    return [`| ${call} | ${names.map((name) => (name === undefined ? 'yes' : code(name))).join(', ')} |`];
  });
  return [
    '| Hypercall | Answered |', '|---|---|', ...answered, '',
    '| Refused on purpose | Operations | Answer | Why |', '|---|---|---|---|',
    ...calls.flatMap(([call, lines]) => refusals(lines).map((refusal) => `| ${call} | ${refusal}`)),
  ].join('\n');
}

/** `readme` with the matrix between its markers. @throws Error when a marker is missing */
export function withSupportTable(readme: string, table = supportTable()): string {
  const begin = readme.indexOf(BEGIN);
  const end = readme.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`README.md needs the lines ${BEGIN} and ${END}`);
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${table}\n\n${readme.slice(end)}`;
}
