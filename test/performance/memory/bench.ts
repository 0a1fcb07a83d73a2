/**
 * `npm run bench:memory`: how long a vCPU waits for a page that is paged out, beside a plain C program that does no more
 * than it must; rounds interleaved, medians. Page files on tmpfs. Limit: 3 times the plain program's.
 */
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { build, FIRST, PagedGuest, unavailable } from '../../kvm/pager/guest.js';
import { median } from '../helpers/native-load.js';

const PAGES = 8192;
const ROUNDS = 5;
const LIMIT = 3;


let program = '';
const reason = unavailable(() => (program = build('guest.cc')));
if (reason !== undefined) {
  console.log(`no pager here: ${reason}`);
  process.exit(0);
}
const plain = build('../../performance/memory/plain.cc');
const file = `/dev/shm/xenshim-bench-${process.pid}`;
const ours: number[] = [];
const theirs: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  theirs.push(Number(execFileSync(plain, [file, String(PAGES)], { encoding: 'utf8' })));
  writeFileSync(file, '');
  const guest = PagedGuest.start(program, { pages: PAGES, resident: PAGES, file });
  await guest.tell('fill', 0, PAGES);
  guest.pager.out(FIRST, PAGES);
  ours.push(Number(await guest.tell('time', 0, PAGES)));
  await guest.end();
  rmSync(file);
}
const ratio = median(ours) / median(theirs);
const us = (ns: number): string => `${(ns / 1000).toFixed(1)} µs`;
console.log(`page-in, fault to resident: ${us(median(ours))}; plain C program: ${us(median(theirs))}; ratio ${ratio.toFixed(2)} (at most ${LIMIT})`);
process.exitCode = ratio <= LIMIT ? 0 : 1;
