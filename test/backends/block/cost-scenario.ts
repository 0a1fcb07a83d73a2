/** A script of its own process: runs one scenario and prints what it cost as JSON. */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { BlockLab } from './lab.js';

const lab = new BlockLab();
const page = lab.guest.page();

/** CPU time of all threads but this one, in ms. */
function workerMs(): number {
  const taken = (tid: string): number => {
    try {
      return Number(readFileSync(`/proc/self/task/${tid}/schedstat`, 'latin1').split(' ')[0]) / 1e6;
    } catch {
      return 0;
    }
  };
  const others = readdirSync('/proc/self/task').filter((tid) => tid !== String(process.pid));
  return others.reduce((sum, tid) => sum + taken(tid), 0);
}

const openFds = (): number => readdirSync('/proc/self/fd').length;

async function reconnect(): Promise<Record<string, number>> {
  lab.backend(lab.image(2048), { maxQueues: 2 });
  const front = lab.front(0, { queues: 2 });
  await front.connect();
  await front.disconnect();
  const before = openFds();
  for (let round = 0; round < 1000; round++) {
    await front.connect();
    if (round % 50 === 0 && (await front.transfer(false, 0, [page], 1)) !== 0) throw new Error('read failed');
    await front.disconnect();
  }
  const descriptors = openFds() - before;
  const { handles, pinnedRefs } = lab.guest.stats();
  return { descriptors, ports: lab.ports.bound, pins: handles + pinnedRefs, complaints: front.complaints.length };
}

async function idle(persistent = false): Promise<Record<string, number>> {
  lab.backend(lab.image(2048), { persistent });
  const front = lab.front(0, { persistent });
  await front.connect();
  for (let i = 0; i < 100; i++) await front.transfer(false, 0, [page]);
  await sleep(300);
  const before = workerMs();
  await sleep(1000);
  return { workerMs: workerMs() - before };
}

async function flood(): Promise<Record<string, number>> {
  lab.backend(lab.image(2048));
  const front = lab.front();
  await front.connect();
  const { port } = front.queues[0]!;
  let events = 0;
  const send = setInterval(() => {
    for (let i = 0; i < 50; i++) lab.ports.send(port);
    events += 50;
  }, 1);
  await sleep(500);
  const before = workerMs();
  await sleep(1000);
  const spent = workerMs() - before;
  clearInterval(send);
  const started = performance.now();
  await front.transfer(false, 0, [page]);
  return { workerMs: spent, servedMs: performance.now() - started, events };
}

/** Leaves without a word while the worker sleeps in a system call. */
async function leave(): Promise<never> {
  lab.backend(lab.image(2048));
  const front = lab.front();
  await front.connect();
  await front.transfer(false, 0, [page]);
  await sleep(200);
  rmSync(lab.dir, { recursive: true });
  console.log('{}');
  process.exit(0);
}

const scenarios: Record<string, () => Promise<Record<string, number>>> = {
  reconnect,
  idle,
  'idle-persistent': () => idle(true),
  flood,
  leave,
};
const result = await scenarios[process.argv[2]!]!();
await lab.close();
console.log(JSON.stringify(result));
