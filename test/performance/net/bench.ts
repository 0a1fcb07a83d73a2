/**
 * `npm run bench:net`: our vif against the tap itself (the limit: plain system calls or io_uring in batches, whichever is
 * better) and against the same loop in C (the ceiling), one after the other in every round so that a noisy machine
 * disturbs all alike; medians of the rounds. In a network namespace of its own, the load on one core, what moves the
 * frames on another.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { compile, median, stayOn } from '../helpers/native-load.js';
import { CASES } from './cases.js';
import type { NetCase } from './cases.js';
import { OurVif } from './ours.js';
import { Place } from './place.js';
import type { Measured } from './place.js';

const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    cases: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1' },
    cores: { type: 'string', default: '0,1' },
    only: { type: 'string' },
  },
});

const INSIDE = 'XENSHIM_BENCH_NETNS';
if (process.env[INSIDE] === undefined) {
  const namespace = process.getuid!() === 0 ? ['-n'] : ['-rn'];
  const { status, error } = spawnSync(
    'unshare',
    [...namespace, process.execPath, ...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)],
    { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } },
  );
  if (error !== undefined) console.error(`bench: unshare: ${error.message}`);
  process.exit(status ?? 2);
}

interface Row {
  readonly case: string;
  readonly limit: number | null;
  readonly ceiling: number | null;
  readonly ours: number;
  readonly ours_over_limit: number | null;
  readonly ours_over_ceiling: number | null;
  readonly cpu_ns_per_packet: number;
}

const [backendCore = 0, loadCore = 1] = values.cores.split(',').map(Number);
const wanted = values.cases?.split(',');
const cases = CASES.filter(({ name }) => wanted === undefined || wanted.some((part) => name.includes(part)));
const rounds = Number(values.rounds);

// Neighbour discovery of the namespace's own stack would be counted as frames.
writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
stayOn(backendCore);
const sources = ['main', 'common', 'uring', 'limit', 'source', 'frontend', 'ceiling'];
const program = compile(...sources.map((name) => `test/performance/net/native/${name}.c`));
const place = new Place(program, backendCore, loadCore, Number(values.seconds));

/** Resident memory that is not the guest's, KiB. */
function resident(): number {
  const status = readFileSync('/proc/self/status', 'latin1');
  const kib = (key: string): number => Number(new RegExp(`^${key}:\\s*(\\d+)`, 'm').exec(status)![1]);
  return kib('RssAnon') + kib('RssFile');
}

const before = resident();
const vif = new OurVif(place);

/** The tap as it is under a connected vif. */
function raise(gso: boolean): void {
  place.tap.setOffloads({ csum4: true, csum6: true, tso4: gso, tso6: gso });
  place.tap.setCarrier(true);
}

async function limit(test: NetCase, engine: 'plain' | 'uring'): Promise<Measured> {
  raise(test.gso);
  const source = test.way === 'rx' ? place.start('source', loadCore, test, ['--warmup', '0.6']) : undefined;
  const result = await place.start(`${test.way}-${engine}`, backendCore, test).result();
  await source?.ended();
  return result;
}

async function ceiling(test: NetCase): Promise<Measured> {
  raise(test.gso);
  const backend = await startCeiling(test);
  try {
    return await backend.result();
  } finally {
    await backend.stop();
  }
}

/** The C backend begins when the frontend has its rings and grants ready. */
async function startCeiling(test: NetCase): Promise<{ result(): Promise<Measured>; stop(): Promise<void> }> {
  const waiting = place.start('ceiling', backendCore, test);
  const front = place.start(test.way, loadCore, test, ['--pid', String(waiting.pid)]);
  await front.ready();
  waiting.go();
  await waiting.ready();
  front.go();
  return { result: () => front.result(), stop: () => waiting.stop() };
}

async function ours(test: NetCase, part: string = test.way): Promise<Measured> {
  const front = place.start(part, loadCore, test, ['--pid', String(process.pid)]);
  await front.ready();
  await vif.connect(test.gso);
  front.go();
  const result = await front.result();
  await vif.disconnect();
  return result;
}

async function measure(test: NetCase): Promise<Row> {
  const limits: Measured[][] = [[], []];
  const ceilings: Measured[] = [];
  const own: Measured[] = [];
  for (let round = 0; round < rounds; round++) {
    if (values.only !== 'ours') {
      if (test.way !== 'rr') {
        limits[0]!.push(await limit(test, 'plain'));
        limits[1]!.push(await limit(test, 'uring'));
      }
      ceilings.push(await ceiling(test));
    }
    own.push(await ours(test));
  }
  const rate = (results: readonly Measured[]): number | null =>
    results.length === 0 ? null : Math.round(median(results.map((result) => result.rate)));
  const best = test.way === 'rr' || values.only === 'ours' ? null : Math.max(rate(limits[0]!)!, rate(limits[1]!)!);
  const top = rate(ceilings);
  const mine = rate(own)!;
  const ratio = (other: number | null): number | null => (other === null ? null : Number((mine / other).toFixed(3)));
  return {
    case: test.name,
    limit: best,
    ceiling: top,
    ours: mine,
    ours_over_limit: ratio(best),
    ours_over_ceiling: ratio(top),
    cpu_ns_per_packet: Math.round(median(own.map((result) => result.cpuNs))),
  };
}

const show = (value: number | null, asked: number | undefined): string =>
  `${value === null ? '–' : value.toFixed(2)}${asked === undefined ? '' : ` (${asked})`}`;
const line = (cells: readonly string[]): string =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(14) : cell.padStart(i < 4 ? 11 : 14))).join('');

console.log(line(['case', 'limit', 'ceiling', 'ours', 'of limit', 'of ceiling', 'CPU ns/packet']));
const rows: Row[] = [];
for (const test of cases) {
  const row = await measure(test);
  rows.push(row);
  console.log(line([
    row.case,
    ...[row.limit, row.ceiling, row.ours].map((n) => (n === null ? '–' : String(n))),
    show(row.ours_over_limit, test.overLimit),
    show(row.ours_over_ceiling, test.overCeiling),
    String(row.cpu_ns_per_packet),
  ]));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
}
console.log('\nframes (rr: exchanges) a second; in brackets what the project asks of itself');

const idle = await ours(CASES[0]!, 'idle');
console.log(`an idle vif uses ${(idle.cpuShare * 100).toFixed(2)} % of a core (both threads of its process)`);
console.log(`a vif that has carried all this holds ${((resident() - before) / 1024).toFixed(1)} MiB beyond the guest's RAM`);
await vif.backend.close();
