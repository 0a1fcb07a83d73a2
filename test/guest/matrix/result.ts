/** What came of the rows: a table for people, JSON, and JUnit's XML for CI systems. */
import type { StepResult } from '../../../cli/demo/report.js';
import type { Row } from './rows.js';

export interface RowResult {
  readonly guest: string;
  readonly host: string;
  readonly machine: string;
  readonly ok: boolean;
  /** From the start of the first boot to the end of the last. */
  readonly seconds: number;
  readonly steps: readonly StepResult[];
  /** `uname -r` in the guest; left out if it never got so far. */
  readonly kernel?: string;
  /** Boots it took: more than 1 only when the lab's software CPU lost a guest, see cli/demo/session.ts. */
  readonly attempts: number;
}

/** A row that has no report: all its steps have failed for one reason. */
export function withoutReport({ guest, host, machine, steps }: Row, reason: string, seconds = 0): RowResult {
  return {
    guest, host, machine, ok: false, seconds, attempts: 0,
    steps: steps.map((name) => ({ name, ok: false, seconds: 0, detail: reason })),
  };
}

/** Markdown, aligned. */
export function resultTable(results: readonly RowResult[]): string {
  const head = ['guest', 'host', 'machine', 'kernel', 'ok', 'seconds'];
  const lines = results.map((row) => [
    row.guest, row.host, row.machine, row.kernel ?? '–',
    row.ok ? `yes${row.attempts > 1 ? `, boot ${row.attempts}` : ''}` : `no: ${whatFailed(row)}`,
    row.seconds.toFixed(0),
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...lines.map((line) => line[column]!.length)));
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...lines.map(line), ''].join('\n');
}

function whatFailed({ steps }: RowResult): string {
  const failed = steps.filter(({ ok }) => !ok);
  return failed.length === steps.length ? 'all of it' : failed.map(({ name }) => name).join(', ');
}

/** A line for each reason why steps of a row failed: those after the first often have the same. */
export function failures(results: readonly RowResult[]): string[] {
  return results.flatMap(({ guest, host, machine, steps }) => {
    const reasons = new Map<string, string[]>();
    for (const { name, ok, detail } of steps) if (!ok) reasons.set(detail, [...(reasons.get(detail) ?? []), name]);
    return [...reasons].map(([detail, names]) => `${guest} on ${machine}, ${host}: ${names.join(', ')}: ${detail}`);
  });
}

/** One test suite for each row, one test case for each step. */
export function junit(results: readonly RowResult[]): string {
  const suites = results.map(({ guest, host, machine, seconds, steps }) => [
    `  <testsuite name=${attribute(`${guest}.${host}.${machine}`)} tests="${steps.length}" ` +
      `failures="${steps.filter(({ ok }) => !ok).length}" time="${seconds}">`,
    ...steps.map(({ name, ok, seconds: time, detail }) => {
      const start = `    <testcase classname=${attribute(`${guest}.${host}.${machine}`)} name=${attribute(name)} time="${time}"`;
      return ok ? `${start}/>` : `${start}><failure message=${attribute(detail)}/></testcase>`;
    }),
    '  </testsuite>',
  ].join('\n'));
  return ['<?xml version="1.0" encoding="UTF-8"?>', '<testsuites>', ...suites, '</testsuites>', ''].join('\n');
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\n': '&#10;', '\t': '&#9;' };

/** A quoted attribute value. A guest's output may hold characters that XML 1.0 has not at all. */
function attribute(text: string): string {
  return `"${text.replace(/[\0-\x08\x0b-\x1f\x7f\ufffe\uffff]/g, '?').replace(/[&<>"\n\t]/g, (each) => entities[each]!)}"`;
}
