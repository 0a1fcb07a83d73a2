import test from 'ava';

import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { BlockLab } from './lab.js';

test('a kernel that takes over without the old one having closed (kexec after a crash) gets the disk through its resets', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048), { maxQueues: 4 });
  const old = lab.front(0, { order: 4, queues: 4 });
  await old.connect();
  const page = lab.guest.page();
  const answers = Array.from({ length: 20 }, (_, i) => old.transfer(true, i * 8, [page], i % 4));
  // What Linux's xenbus_reset_frontend does with a device it finds Connected.
  const next = lab.front();
  for (const [mine, backends] of [
    [XenbusState.Closing, XenbusState.Closing],
    [XenbusState.Closed, XenbusState.Closed],
    [XenbusState.Initialising, XenbusState.InitWait],
  ] as const) {
    next.setState(mine);
    await next.waitBackend(backends);
  }
  t.is(lab.ports.bound, 0);
  t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
  await next.connect();
  t.is(await next.transfer(false, 0, [page]), 0);
  await next.disconnect();
  // The old kernel's requests were answered or never taken; its complaints are only about those that were not.
  answers.forEach((answer) => void answer.catch(() => {}));
  t.deepEqual(next.complaints, []);
  t.is(await lab.close(), 0);
});

test('a driver that goes back to Initialising again and again before it connects does not confuse the disk', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048));
  const front = lab.front();
  for (let round = 0; round < 20; round++) {
    await front.initialise();
    if (round % 2 === 0) await front.waitBackend(XenbusState.Connected);
    front.setState(XenbusState.Closed);
    await front.waitBackend(XenbusState.Closed);
    front.takeBack();
  }
  await front.connect();
  t.is(await front.transfer(false, 8, [lab.guest.page()]), 0);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(lab.ports.bound, 0);
  t.is(await lab.close(), 0);
});

test('a disk taken away by force is gone although its frontend does nothing, with its requests answered and its pages free', async (t) => {
  const lab = new BlockLab();
  const backend = lab.backend(lab.image(32768));
  const front = lab.front();
  await front.connect();
  const pages = Array.from({ length: 16 }, () => lab.guest.page());
  const answers = pages.map((page, i) => front.transfer(true, i * 8, [page]));
  while (backend.stats().wr_req < 16) await new Promise(setImmediate);
  backend.detach(true);
  while (lab.removed.length === 0) await new Promise(setImmediate);
  t.false(lab.store.exists(front.backendPath));
  t.false(lab.store.exists(front.frontendPath));
  front.takeBack();
  t.deepEqual(await Promise.all(answers), new Array(16).fill(0));
  t.deepEqual(front.complaints, []);
  t.is(lab.ports.bound, 0);
  t.is(await lab.close(), 0);
});
