/**
 * `npm run bench:block`: our disk against fio (the limit) and qemu-storage-daemon (the peer), one after the other in
 * every round so that a noisy machine disturbs all alike; medians of the rounds.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { compile, median, stayOn } from '../helpers/native-load.js';
import { CASES, NULL_CPU_NS } from './cases.js';
import type { BlockCase } from './cases.js';
import { besidePoller, limitIops } from './limit.js';
import { ownCost } from './null-cost.js';
import { ourLoad } from './ours.js';
import type { BenchPlace } from './ours.js';
import { peerLoad } from './peer.js';

const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    cases: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
    /** Where the file on a disk goes. */
    dir: { type: 'string', default: tmpdir() },
    tmpfs: { type: 'string', default: '/dev/shm' },
    mib: { type: 'string', default: '512' },
    cores: { type: 'string', default: '0,1' },
    only: { type: 'string' },
  },
});

interface Row {
  readonly case: string;
  /** Of fio, with a poller on the load's core where the load polls. */
  readonly limit_iops: number | null;
  /** Of fio with the load's core asleep: the same, where the load sleeps. */
  readonly limit_alone_iops: number | null;
  readonly peer_iops: number | null;
  readonly ours_iops: number;
  readonly ours_over_limit: number | null;
  readonly ours_over_peer: number | null;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly cpu_ns_per_io: number;
}

const bytes = Number(values.mib) * 2 ** 20;
const [backendCore = 0, loadCore = 1] = values.cores.split(',').map(Number);
const wanted = values.cases?.split(',');
const cases = CASES.filter(({ name }) => wanted === undefined || wanted.some((part) => name.includes(part)));
const rounds = Number(values.rounds);
const need = (command: string, packages: string): void => {
  if (spawnSync(command, ['--version']).error === undefined) return;
  console.error(`bench: ${command} is missing: apt-get install ${packages}`);
  process.exit(2);
};
need('fio', 'fio');
need('qemu-storage-daemon', 'qemu-utils qemu-system-common');
need('taskset', 'util-linux');

/** A file whose bytes are all there: no hole is read faster than data. */
function makeFile(dir: string): { dir: string; path: string } {
  const own = mkdtempSync(join(dir, 'xenshim-bench-'));
  const path = join(own, 'disk.img');
  const fd = openSync(path, 'w');
  const chunk = new Int32Array(2 ** 18);
  for (let at = 0; at < bytes; at += chunk.byteLength) writeSync(fd, chunk.fill(at ^ 0x5bd1e995));
  fsyncSync(fd);
  closeSync(fd);
  return { dir: own, path };
}

const files = new Map<string, { dir: string; path: string }>();
process.on('exit', () => {
  for (const { dir } of files.values()) rmSync(dir, { recursive: true });
});

function placeOf(test: BlockCase): BenchPlace {
  const common = { bytes, backendCore, loadCore, seconds: Number(values.seconds) };
  if (test.store === 'null') return { ...common, path: `null:${bytes}` };
  let file = files.get(test.store);
  if (file === undefined) files.set(test.store, (file = makeFile(test.store === 'disk' ? values.dir : values.tmpfs)));
  return { ...common, path: file.path };
}

stayOn(backendCore);
const blkfront = compile('test/performance/block/native/blkfront.c');
const poller = compile('test/performance/block/native/poller.c');
const virtio = compile('test/performance/block/native/virtio-front.c');

const ratio = (ours: number, other: number | undefined): number | null =>
  other === undefined ? null : Number((ours / other).toFixed(3));

async function measure(test: BlockCase): Promise<Row> {
  const place = placeOf(test);
  const limits: number[] = [];
  const alone: number[] = [];
  const peers: number[] = [];
  const ours: Awaited<ReturnType<typeof ourLoad>>[] = [];
  for (let round = 0; round < rounds; round++) {
    if (test.store !== 'null' && values.only !== 'ours') {
      const fio = (): Promise<number> => limitIops(backendCore, place.path, test, place.seconds);
      alone.push(await fio());
      limits.push(test.event ? alone.at(-1)! : await besidePoller(poller, loadCore, fio));
      peers.push((await peerLoad(virtio, place, test)).iops);
    }
    ours.push(await ourLoad(blkfront, place, test));
  }
  const of = (key: 'iops' | 'p50_us' | 'p99_us' | 'cpuNs'): number => median(ours.map((result) => result[key]));
  const limit = limits.length === 0 ? undefined : median(limits);
  const limitAlone = alone.length === 0 ? undefined : median(alone);
  const peer = peers.length === 0 ? undefined : median(peers);
  return {
    case: test.name,
    limit_iops: limit === undefined ? null : Math.round(limit),
    limit_alone_iops: limitAlone === undefined ? null : Math.round(limitAlone),
    peer_iops: peer === undefined ? null : Math.round(peer),
    ours_iops: Math.round(of('iops')),
    ours_over_limit: ratio(of('iops'), limit),
    ours_over_peer: ratio(of('iops'), peer),
    p50_us: of('p50_us'),
    p99_us: of('p99_us'),
    cpu_ns_per_io: Math.round(test.store === 'null' ? ownCost(test) : of('cpuNs')),
  };
}

const show = (value: number | null, asked: number | undefined): string =>
  `${value === null ? '–' : value.toFixed(2)}${asked === undefined ? '' : ` (${asked})`}`;
const line = (cells: readonly string[]): string =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(33) : cell.padStart(i < 5 ? 10 : 13))).join('');

console.log(line(['case', 'alone', 'limit', 'peer', 'ours', 'of limit', 'of peer', 'p50 µs', 'p99 µs', 'CPU ns/io']));
const rows: Row[] = [];
for (const test of cases) {
  const row = await measure(test);
  rows.push(row);
  const counts = [row.limit_alone_iops, row.limit_iops, row.peer_iops, row.ours_iops].map((n) => (n === null ? '–' : String(n)));
  console.log(line([
    row.case,
    ...counts,
    show(row.ours_over_limit, test.overLimit),
    show(row.ours_over_peer, test.overPeer),
    row.p50_us.toFixed(1),
    row.p99_us.toFixed(1),
    `${row.cpu_ns_per_io}${test.store === 'null' ? ` (${NULL_CPU_NS})` : ''}`,
  ]));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
}
console.log(
  '\nmedians; in brackets what the project asks of itself; limit: fio, beside a process that polls where the load polls;\n' +
  'alone: fio with the other processor idle',
);
