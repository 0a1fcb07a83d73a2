/**
 * CPU time of mapping and unmapping a resident grant, in batches of 32, with the page handed over; and of copies. Limit: 400 ns a
 * pair, with pins counted as for a guest whose memory comes and goes, too.
 */
import { MapBatch } from '../../shim/grant-table/foreign.js';
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import type { RamWindow } from '../../shim/memory/guest-memory.js';
import { createFrames } from '../../shim/memory/frames.js';
import { FakeGuest } from '../helpers/fake-frontend-guest.js';
import { fixture, HIGH_GFN, LOW_GFN } from '../shim/grant-table/fixture.js';

const BATCH = 32;
const ROUNDS = 5_000;
const RUNS = 9;
/** ns a pair. */
const LIMIT = 400;

const { table, grants, grant } = fixture();
for (let i = 0; i < BATCH; i++) grant(8 + i, i % 4 === 3 ? HIGH_GFN + (i & 3) : LOW_GFN + i);

const batch = new MapBatch(BATCH);
let sum = 0;
const pageChanged = (context: number, _window: RamWindow, offset: number): void => {
  sum = (sum + context + offset) | 0;
};

function pairs(rounds: number, readonly: boolean, grants: ForeignGrants, first = 8): number {
  const start = process.cpuUsage().user;
  for (let round = 0; round < rounds; round++) {
    batch.count = 0;
    for (let i = 0; i < BATCH; i++) batch.add(first + i, readonly, i);
    grants.map(batch, pageChanged);
    grants.unmap(batch);
  }
  return ((process.cpuUsage().user - start) * 1000) / (rounds * BATCH);
}

function copies(rounds: number, length: number): number {
  const bytes = new Uint8Array(length);
  const start = process.cpuUsage().user;
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < BATCH; i++) grants.copyTo(8 + i, 0, bytes, 0, length);
  }
  return ((process.cpuUsage().user - start) * 1000) / (rounds * BATCH);
}

const median = (run: () => number): number => {
  const results = Array.from({ length: RUNS }, run).sort((a, b) => a - b);
  return results[RUNS >> 1]!;
};

const counted = new FakeGuest(64, 1, createFrames(HIGH_GFN + 64));
counted.attached.grantTable.countPins();
const refs = Array.from({ length: BATCH }, () => counted.grant(counted.page().gfn));

pairs(ROUNDS, false, grants);
let slowest = 0;
for (const [what, measure] of [
  ['read-write', () => pairs(ROUNDS, false, grants)],
  ['read-only', () => pairs(ROUNDS, true, grants)],
  ['pins counted', () => pairs(ROUNDS, false, counted.attached.grants, refs[0])],
] as const) {
  const ns = median(measure);
  slowest = Math.max(slowest, ns);
  console.log(`map + unmap, ${`${what}:`.padEnd(14)} ${ns.toFixed(0)} ns a pair (at most ${LIMIT})`);
}
copies(ROUNDS, 64);
console.log(`copy of 64 bytes:        ${median(() => copies(ROUNDS, 64)).toFixed(0)} ns`);
console.log(`copy of 4096 bytes:      ${median(() => copies(ROUNDS, 4096)).toFixed(0)} ns`);
if (table.stats().pinnedRefs !== 0) throw new Error(`pins left behind (${sum})`);
if (counted.stats().pinnedRefs !== 0 || refs.some((ref, i) => ref !== refs[0]! + i)) throw new Error('the counted grants are not what they should be');
counted.close();
process.exitCode = slowest <= LIMIT ? 0 : 1;
