/** CPU time of mapping and unmapping a resident grant, in batches of 32, with the page handed over; and of copies. */
import { MapBatch } from '../../shim/grant-table/foreign.js';
import type { RamWindow } from '../../shim/memory/guest-memory.js';
import { fixture, HIGH_GFN, LOW_GFN } from '../shim/grant-table/fixture.js';

const BATCH = 32;
const ROUNDS = 5_000;
const RUNS = 9;

const { table, grants, grant } = fixture();
for (let i = 0; i < BATCH; i++) grant(8 + i, i % 4 === 3 ? HIGH_GFN + (i & 3) : LOW_GFN + i);

const batch = new MapBatch(BATCH);
let sum = 0;
const pageChanged = (context: number, _window: RamWindow, offset: number): void => {
  sum = (sum + context + offset) | 0;
};

function pairs(rounds: number, readonly: boolean): number {
  const start = process.cpuUsage().user;
  for (let round = 0; round < rounds; round++) {
    batch.count = 0;
    for (let i = 0; i < BATCH; i++) batch.add(8 + i, readonly, i);
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

pairs(ROUNDS, false);
console.log(`map + unmap, read-write: ${median(() => pairs(ROUNDS, false)).toFixed(0)} ns a pair`);
console.log(`map + unmap, read-only:  ${median(() => pairs(ROUNDS, true)).toFixed(0)} ns a pair`);
copies(ROUNDS, 64);
console.log(`copy of 64 bytes:        ${median(() => copies(ROUNDS, 64)).toFixed(0)} ns`);
console.log(`copy of 4096 bytes:      ${median(() => copies(ROUNDS, 4096)).toFixed(0)} ns`);
if (table.stats().pinnedRefs !== 0) throw new Error(`pins left behind (${sum})`);
