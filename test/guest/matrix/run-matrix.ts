/** Runs rows: host by host, those of a lab host in one lab as long as it lives. A row that fails stops no other. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInLab } from '../../../cli/demo/host.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { builtImage } from '../../../vm-images/build.js';
import { imageSpec } from '../../../vm-images/manifest.js';
import { withoutReport, type RowResult } from './result.js';
import { NATIVE, rowName, type Row } from './rows.js';
import { resultFile, runRow } from './run-row.js';

type Say = (line: string) => void;

/** What an attempt to run rows is told. */
interface Way {
  /** Folder of the host's results. */
  readonly results: string;
  readonly say: Say;
  /** To be called with each result as it comes. */
  readonly done: (row: Row, result: RowResult) => void;
}

/** @param results folder that gets a folder for each host. @returns a result for each row, in the order of the rows */
export async function runMatrix(rows: readonly Row[], results: string, say: Say): Promise<RowResult[]> {
  const found = new Map<Row, RowResult>();
  for (const host of new Set(rows.map((row) => row.host))) {
    const way: Way = {
      results: join(results, host),
      say,
      done: (row, result) => {
        found.set(row, result);
      },
    };
    mkdirSync(way.results, { recursive: true });
    const mine = await withImages(rows.filter((row) => row.host === host), way);
    if (host === NATIVE) {
      await onThisMachine(mine, way);
      continue;
    }
    for (const cpu of new Set(mine.map(({ entry }) => entry['lab-cpu']))) {
      await inLabs(host, cpu, mine.filter(({ entry }) => entry['lab-cpu'] === cpu), way);
    }
  }
  return rows.map((row) => found.get(row) ?? withoutReport(row, 'it was never started'));
}

/** Rows whose images there are or can be built; the others have failed. */
async function withImages(rows: readonly Row[], { say, done }: Way): Promise<Row[]> {
  const reasons = new Map<string, string>();
  for (const image of new Set(rows.map(({ entry }) => entry.image))) {
    try {
      await builtImage(imageSpec('guests', image), say);
    } catch (error) {
      reasons.set(image, lineOf(error));
      say(lineOf(error));
    }
  }
  return rows.filter((row) => {
    const reason = reasons.get(row.entry.image);
    if (reason !== undefined) done(row, withoutReport(row, reason));
    return reason === undefined;
  });
}

async function onThisMachine(rows: readonly Row[], { results, say, done }: Way): Promise<void> {
  for (const row of rows) {
    say(`${rowName(row)}:`);
    const image = await builtImage(imageSpec('guests', row.entry.image), say);
    done(row, await runRow(row, image.dir, results, say));
  }
}

/**
 * A lab that ends early or hangs costs the row that ran; the rest get a lab of their own. Only if the lab host's kernel
 * itself has died, which is the software CPU's doing, the row is run once more, and its boots are counted together.
 */
async function inLabs(host: string, cpu: string, rows: readonly Row[], way: Way): Promise<void> {
  const died = new Set<Row>();
  for (let left = [...rows]; left.length > 0;) {
    const started = Date.now();
    const { reason, panic } = await lab(host, cpu, left, way);
    const missing = left.filter((row) => {
      const file = resultFile(way.results, row);
      if (existsSync(file)) {
        const result = JSON.parse(readFileSync(file, 'utf8')) as RowResult;
        way.done(row, died.has(row) ? { ...result, attempts: result.attempts + 1 } : result);
      }
      return !existsSync(file);
    });
    const [running, ...rest] = missing;
    if (running === undefined) return;
    way.say(`${rowName(running)}: no result: ${reason}`);
    if (panic && !died.has(running)) {
      died.add(running);
      left = missing;
      way.say(`another lab for ${rowName(running)} and what comes after it`);
      continue;
    }
    way.done(running, withoutReport(running, reason, Math.round((Date.now() - started) / 1000)));
    left = rest;
    if (left.length > 0) way.say(`another lab for the ${left.length} rows that are left`);
  }
}

/** @returns why rows have no result, if some have none, and whether the lab host's kernel has died */
async function lab(
  host: string, cpu: string, rows: readonly Row[], { results, say }: Way,
): Promise<{ readonly reason: string; readonly panic: boolean }> {
  const minutes = rows.reduce((sum, { entry }) => sum + entry.minutes, 0);
  try {
    const status = await runInLab({
      script: 'test/guest/matrix/in-lab.js',
      args: [host, ...rows.map(({ guest, machine }) => `${guest}/${machine}`)],
      results,
      host,
      cpu,
      guests: [...new Set(rows.map(({ entry }) => entry.image))],
      timeoutSeconds: 60 * minutes,
      onOutput: (chunk) => {
        for (const line of chunk.toString().trimEnd().split('\n')) say(line);
      },
      progress: say,
    });
    return { reason: `the program in the lab ended with ${status}; its output says why`, panic: false };
  } catch (error) {
    return { reason: lineOf(error), panic: error instanceof OperatorError && error.code === 'LAB_PANIC' };
  }
}

function lineOf(error: unknown): string {
  if (error instanceof OperatorError) return error.line.replaceAll('\n', ' ');
  return error instanceof Error ? error.message : String(error);
}
