/** Disks whose queues are spread over several threads. */
import test from 'ava';

import { openImage } from '../../../backends/block/image.js';
import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { exercise } from './exercise.js';
import { BlockLab } from './lab.js';

for (const { queuesPerWorker, persistent } of [
  { queuesPerWorker: 4, persistent: false },
  { queuesPerWorker: 2, persistent: true },
  { queuesPerWorker: 1, persistent: false },
]) {
  test(`reads and writes of four queues, ${queuesPerWorker} on a thread, keep the data right`, async (t) => {
    const lab = new BlockLab();
    const path = lab.image(32768);
    const model = lab.read(path);
    const backend = lab.backend(path, { maxQueues: 4, queuesPerWorker, persistent });
    const front = lab.front(0, { order: 1, queues: 4, persistent });
    await front.connect();
    t.deepEqual(await exercise(front, lab, model, 30, 4), []);
    t.is(await front.flush(), 0);
    t.true(model.equals(lab.read(path)));
    // Eight lanes, two on a queue.
    t.deepEqual(backend.report().queues.map(({ rd_req, wr_req }) => rd_req + wr_req), [60, 60, 60, 60]);
    await backend.setMaxBufferPages(64);
    await backend.remap(lab.guest.handles.ram);
    t.is(await backend.resize({ bytes: 65536 * 512, shrink: false }), 65536 * 512);
    const page = lab.guest.page();
    for (let queue = 0; queue < 4; queue++) t.is(await front.transfer(true, 65536 - 8, [page], queue), 0);
    t.is(await backend.resize({ bytes: 32768 * 512, shrink: true }), 32768 * 512);
    for (let queue = 0; queue < 4; queue++) t.is(await front.transfer(true, 32768, [page], queue), -1);
    await front.disconnect();
    t.deepEqual(front.complaints, []);
    t.is(await lab.close(), 0);
    t.is(lab.ports.bound, 0);
  });
}

test('E71, E72: connects with queues on two threads and disconnects under load, again and again, leave nothing behind', async (t) => {
  const lab = new BlockLab();
  const backend = lab.backend(lab.image(32768), { maxQueues: 4, queuesPerWorker: 2 });
  const before = lab.openFds();
  let written = 0;
  for (let round = 0; round < 60; round++) {
    const queues = 1 + (round % 4);
    const front = lab.front(0, { queues });
    await front.connect();
    const pages = Array.from({ length: 24 }, () => lab.guest.page());
    const answers = pages.map((page, i) => front.transfer(true, i * 8, [page], i % queues));
    written += 24;
    while (backend.stats().wr_req < written) await new Promise(setImmediate);
    front.setState(XenbusState.Closed);
    await front.waitBackend(XenbusState.Closed);
    front.takeBack();
    t.deepEqual(await Promise.all(answers), new Array(24).fill(0));
    t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
    t.is(lab.ports.bound, 0);
    t.deepEqual(front.complaints, []);
    for (const page of pages) lab.guest.freePage(page);
  }
  t.is(lab.openFds(), before);
  t.is(await lab.close(), 0);
});

test('E57: a ring that one thread refuses ends the connection of the others, and the next frontend is served', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048), { maxQueues: 4, queuesPerWorker: 1 });
  const front = lab.front(0, { queues: 4 });
  await front.initialise();
  front.queues[2]!.ring.setReqProd(33);
  await front.waitBackend(XenbusState.Closing);
  t.regex(lab.error() ?? '', /^5 .*queue 2/);
  t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
  t.is(lab.ports.bound, 0);
  front.setState(XenbusState.Closed);
  await front.waitBackend(XenbusState.Closed);
  front.takeBack();
  await front.connect();
  t.is(await front.transfer(false, 0, [lab.guest.page()], 3), 0);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('E56: a frontend that breaks the ring of one queue is served on the others, and the log names the queue', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048), { maxQueues: 4, queuesPerWorker: 2 });
  const front = lab.front(0, { queues: 4 });
  await front.connect();
  const { ring, port } = front.queues[3]!;
  ring.setReqProd(ring.reqProd + 33);
  lab.ports.send(port);
  while (!lab.messages.some((message) => message.includes('overran its ring'))) await new Promise(setImmediate);
  for (const queue of [0, 1, 2]) t.is(await front.transfer(false, 0, [lab.guest.page()], queue), 0);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('a disk one of whose threads dies is at its end, and the frontend is told', async (t) => {
  const lab = new BlockLab();
  const image = openImage(lab.image(2048), { readonly: false });
  // A worker cannot look at this descriptor.
  const backend = lab.backend('disk', {
    image: { ...image, place: { kind: 'file', fd: 1_000_000 } }, maxQueues: 4, queuesPerWorker: 2,
  });
  const front = lab.front(0, { queues: 2 });
  await front.waitBackend(XenbusState.Closing);
  t.regex(lab.error() ?? '', /^5 internal error/);
  t.is(lab.ports.bound, 0);
  await t.throwsAsync(backend.setMaxBufferPages(0));
  t.is(await lab.close(), 0);
  // Four queues, two on a thread.
  t.is(lab.messages.filter((message) => message === 'worker thread failed').length, 2);
  image.close();
});
