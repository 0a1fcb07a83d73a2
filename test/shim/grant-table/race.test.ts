import test from 'ava';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Gntst } from '../../../shim/abi/grant-table.js';
import { clearStatus, entryWord, setStatus } from '../../../shim/grant-table/entry-v1.js';
import { createGrantState } from '../../../shim/grant-table/state.js';
import { GrantTable } from '../../../shim/grant-table/table.js';
import { BackendGrants } from '../../../shim/grant-table/backend-grants.js';
import { GuestMemory, PAGE_SIZE, ramWindow } from '../../../shim/memory/guest-memory.js';
import { DOMID, LOW_GFN, PERMIT, READING, WRITING } from './fixture.js';

/** A table over shared buffers, so that threads without the native part can join. */
function shared(): { ram: SharedArrayBuffer; own: SharedArrayBuffer; grants: SharedArrayBuffer } {
  const ram = new SharedArrayBuffer(64 * PAGE_SIZE);
  const own = new SharedArrayBuffer(8 * PAGE_SIZE);
  const entries = new Uint32Array(own, 2 * PAGE_SIZE, 1024);
  for (let ref = 8; ref < 16; ref++) {
    entries[ref * 2] = entryWord(PERMIT, 0);
    entries[ref * 2 + 1] = LOW_GFN + ref;
  }
  return { ram, own, grants: createGrantState({ maxFrames: 4, ownPages: 8, firstOwnPage: 2 }) };
}

type Shared = ReturnType<typeof shared>;

function join({ ram, own, grants }: Shared): GrantTable {
  return new GrantTable(grants, new GuestMemory([ramWindow(LOW_GFN, ram, 2 ** 32)]), ramWindow(0, own, 2 ** 33), DOMID);
}

const module = (name: string): string => JSON.stringify(new URL(`../../../shim/${name}.js`, import.meta.url).href);

/** Runs `body` in a worker that has joined as `table` and `grants`; resolves with what it posts. */
function inWorker<T>(buffers: Shared, body: string): { worker: Worker; answer: Promise<T> } {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    (async () => {
      const { GrantTable } = await import(${module('grant-table/table')});
      const { BackendGrants } = await import(${module('grant-table/backend-grants')});
      const { GuestMemory, ramWindow } = await import(${module('memory/guest-memory')});
      const { ram, own, grants: state } = workerData;
      const memory = new GuestMemory([ramWindow(${LOW_GFN}, ram, 2 ** 32)]);
      const table = new GrantTable(state, memory, ramWindow(0, own, 2 ** 33), ${DOMID});
      const grants = new BackendGrants(table);
      ${body}
    })();`;
  const worker = new Worker(source, { eval: true, workerData: buffers });
  const answer = new Promise<T>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return { worker, answer };
}

test.serial('E07: an entry that changes under every attempt is given up after five, with general_error', (t) => {
  const words = new Int32Array(new SharedArrayBuffer(8));
  words[0] = entryWord(PERMIT, 0);
  const real = Atomics.compareExchange;
  let tries = 0;
  // The guest flips a bit that does not matter (PWT) between each look and each exchange.
  Atomics.compareExchange = ((array: Int32Array, at: number, expected: number, wanted: number) => {
    tries++;
    array[at] = array[at]! ^ 32;
    return real(array, at, expected, wanted);
  }) as typeof Atomics.compareExchange;
  let status: number;
  try {
    status = setStatus(words, 0, 0, false, true);
  } finally {
    Atomics.compareExchange = real;
  }
  t.is(status, Gntst.general_error);
  t.is(tries, 5);
  t.is(words[0]! & (READING | WRITING), 0);
});

test.serial('an entry that settles before the fifth attempt is mapped', (t) => {
  const words = new Int32Array(new SharedArrayBuffer(8));
  words[0] = entryWord(PERMIT, 0);
  const real = Atomics.compareExchange;
  let tries = 0;
  Atomics.compareExchange = ((array: Int32Array, at: number, expected: number, wanted: number) => {
    if (++tries < 5) array[at] = array[at]! ^ 32;
    return real(array, at, expected, wanted);
  }) as typeof Atomics.compareExchange;
  try {
    t.is(setStatus(words, 0, 0, true, true), Gntst.okay);
  } finally {
    Atomics.compareExchange = real;
  }
  t.is(words[0]! & (READING | WRITING), READING);
  clearStatus(words, 0, READING);
  t.is(words[0], entryWord(PERMIT, 0));
});

test('E07: against a guest thread that flips flags all the time every map ends, and nothing stays behind', async (t) => {
  const buffers = shared();
  const table = join(buffers);
  const grants = new BackendGrants(table);
  const { worker, answer } = inWorker<string>(
    buffers,
    `const words = new Int32Array(own, 2 * 4096, 1024);
     table.detach();
     parentPort.postMessage('started');
     for (;;) Atomics.xor(words, 16, 32);`,
  );
  await answer;
  const deadline = Date.now() + 200;
  let maps = 0;
  while (Date.now() < deadline) {
    for (let i = 0; i < 100; i++) {
      const handle = grants.mapOne(8, false, 0, () => {});
      if (handle >= 0) t.is(grants.unmapOne(handle), Gntst.okay);
      else if (handle !== Gntst.general_error) t.fail(`status ${handle}`);
      maps++;
    }
  }
  await worker.terminate();
  t.true(maps > 100);
  const flags = new Int32Array(buffers.own, 2 * PAGE_SIZE, 1024)[16]! & 0xffff;
  t.is(flags & ~32, PERMIT);
  t.is(table.stats().pinnedRefs, 0);
});

test('threads that map and unmap the same grants at once agree in the end', async (t) => {
  const buffers = shared();
  const table = join(buffers);
  const grants = new BackendGrants(table);
  const rounds = 20_000;
  const body = `
    let failed = 0;
    const none = () => {};
    for (let i = 0; i < ${rounds}; i++) {
      const handle = grants.mapOne(8 + (i & 3), (i & 4) !== 0, 0, none);
      if (handle < 0 || grants.unmapOne(handle) !== 0) failed++;
    }
    table.detach();
    parentPort.postMessage(failed);`;
  const workers = [inWorker<number>(buffers, body), inWorker<number>(buffers, body)];
  let moves = 0;
  let running = true;
  const finished = Promise.all(workers.map(({ answer }) => answer)).finally(() => (running = false));
  while (running) {
    // Meanwhile the table is moved about and grown by its owner.
    t.true(table.placeFrame(0, { gfn: LOW_GFN + (moves & 1) }));
    t.true(table.placeFrame(0, 'home'));
    if (moves === 3) t.true(table.growTo(2));
    moves++;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  t.deepEqual(await finished, [0, 0]);
  t.true(moves > 0);
  for (let ref = 8; ref < 12; ref++) {
    t.is(new Int32Array(buffers.own, 2 * PAGE_SIZE, 1024)[ref * 2], entryWord(PERMIT, 0));
  }
  t.deepEqual(table.stats(), { frames: 2, pinnedRefs: 0, readonlyPins: 0, readwritePins: 0, handles: 0 });
  t.is(grants.mapOne(8, false, 0, () => {}) >= 0, true);
});

test('pins, locks and handles of a thread that was killed are taken back', async (t) => {
  const buffers = shared();
  const table = join(buffers);
  const grants = new BackendGrants(table);
  const { worker, answer } = inWorker<number>(
    buffers,
    `for (let i = 0; i < 5; i++) grants.mapOne(8 + i, false, 0, () => {});
     parentPort.postMessage(table.thread);
     parentPort.once('message', () => {
       table.enter();
       table.active.lock(13);
       table.active.lock(14);
       parentPort.postMessage(0);
     });`,
  );
  const thread = await answer;
  t.is(table.stats().handles, 5);
  const mine = grants.mapOne(8, false, 0, () => {});
  t.is(grants.unmapOne(grants.mapOne(14, false, 0, () => {})), Gntst.okay);
  const holding = once(worker, 'message');
  worker.postMessage('die');
  await holding;
  await worker.terminate();
  table.forgetThread(thread);
  t.deepEqual(table.stats(), { frames: 1, pinnedRefs: 1, readonlyPins: 0, readwritePins: 1, handles: 1 });
  t.true(grants.mapOne(14, true, 0, () => {}) >= 0, 'its lock is open');
  t.true(grants.mapOne(13, true, 0, () => {}) >= 0, 'and so is the entry that was its own');
  t.true(table.growTo(2), 'and nobody is in the table any more');
  t.is(grants.unmapOne(mine), Gntst.okay);
  t.is(join(buffers).thread, thread, 'its slot is free');
});
