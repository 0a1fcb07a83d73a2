/** A script of its own process: runs one scenario and prints what it cost as JSON. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { plainFrame } from './frames.js';
import { until, VifLab } from './vif-lab.js';

type Costs = Record<string, number>;

const lab = new VifLab();

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

async function exchange(): Promise<void> {
  lab.front.send(plainFrame(100));
  await until(() => lab.front.tx.responses === lab.front.tx.prod);
  lab.front.txResponses();
  if (lab.wire.receive() === undefined) throw new Error('the frame is not there');
}

async function reconnect(): Promise<Costs> {
  await lab.connect();
  await lab.disconnect();
  const before = lab.openFds();
  for (let round = 0; round < 1000; round++) {
    await lab.connect({ split: round % 2 === 0 });
    if (round % 50 === 0) await exchange();
    await lab.disconnect();
  }
  // io_uring lets go of the rings' descriptors from a kernel thread of its own.
  await until(() => lab.openFds() <= before);
  return { descriptors: lab.openFds() - before, ports: lab.ports.bound, pins: lab.pins() };
}

async function idle(): Promise<Costs> {
  await lab.connect();
  for (let i = 0; i < 100; i++) await exchange();
  await sleep(300);
  const before = workerMs();
  await sleep(1000);
  return { workerMs: workerMs() - before };
}

/** Frames wait and the guest posts nothing. */
async function starved(): Promise<Costs> {
  await lab.connect();
  for (let i = 0; i < 100; i++) lab.wire.send(plainFrame(1000));
  await sleep(300);
  const before = workerMs();
  await sleep(1000);
  return { workerMs: workerMs() - before };
}

async function flood(): Promise<Costs> {
  await lab.connect();
  let events = 0;
  const send = setInterval(() => {
    for (let i = 0; i < 50; i++) lab.front.kick();
    events += 50;
  }, 1);
  await sleep(500);
  const before = workerMs();
  await sleep(1000);
  const spent = workerMs() - before;
  clearInterval(send);
  const started = performance.now();
  await exchange();
  return { workerMs: spent, servedMs: performance.now() - started, events };
}

/** After a fatal request, with the guest still ringing. */
async function disabled(): Promise<Costs> {
  await lab.connect();
  lab.front.tx.prod = 300;
  lab.front.pushTx(true);
  await until(() => !lab.link.carrier);
  const send = setInterval(() => {
    for (let i = 0; i < 50; i++) lab.front.kick();
  }, 1);
  await sleep(100);
  const before = workerMs();
  await sleep(1000);
  const spent = workerMs() - before;
  clearInterval(send);
  return { workerMs: spent };
}

/** Leaves without a word while the worker sleeps in a system call. */
async function leave(): Promise<never> {
  await lab.connect();
  await exchange();
  await sleep(100);
  console.log(JSON.stringify({ leftAt: Date.now() }));
  process.exit(0);
}

const scenarios: Record<string, () => Promise<Costs>> = { reconnect, idle, starved, flood, disabled, leave };
const result = await scenarios[process.argv[2]!]!();
await lab.close();
console.log(JSON.stringify(result));
