import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';

import { BLKIF_X86_32 } from '../../../shim/abi/io/blkif.js';
import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { exercise } from './exercise.js';
import { BlockLab } from './lab.js';

for (const { name, front: options, back = {} } of [
  { name: 'one page, one queue', front: {} },
  { name: 'sixteen pages, four queues', front: { order: 4, queues: 4 } },
  { name: 'persistent grants', front: { order: 2, queues: 2, persistent: true } },
  { name: 'O_DIRECT', front: { order: 1 }, back: { direct: true } },
  { name: 'the 32-bit layout', front: { abi: BLKIF_X86_32, order: 2 } },
]) {
  test(`random reads and writes through store, worker and file keep the data right: ${name}`, async (t) => {
    const lab = new BlockLab();
    const path = lab.image(32768);
    const model = lab.read(path);
    const persistent = options.persistent === true;
    const backend = lab.backend(path, { maxQueues: 4, persistent, ...back });
    const front = lab.front(0, options);
    await front.connect();
    t.is(front.backendKey('sectors'), '32768');
    t.is(front.backendKey('feature-persistent'), persistent ? '1' : undefined);
    t.deepEqual(await exercise(front, lab, model, 60, options.queues ?? 1), []);
    t.is(await front.flush(), 0);
    t.true(model.equals(lab.read(path)));
    t.is(backend.stats().persistent > 0, persistent);
    await front.disconnect();
    t.is(backend.stats().persistent, 0);
    t.deepEqual(front.complaints, []);
    const { rd_req, wr_req, f_req, errors } = backend.stats();
    t.is(rd_req + wr_req, 8 * 60);
    t.is(f_req, 1);
    t.is(errors, 0);
    t.is(await lab.close(), 0);
    t.is(lab.ports.bound, 0);
  });
}

test('what the frontend is offered and told is what there is', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048), { maxQueues: 4 });
  lab.backend(lab.image(2048, 'cd.iso'), { readonly: true, cdrom: true });
  const front = lab.front(0);
  await front.waitBackend(XenbusState.InitWait);
  t.is(front.backendKey('max-ring-page-order'), '4');
  t.is(front.backendKey('multi-queue-max-queues'), '4');
  t.is(front.backendKey('feature-max-indirect-segments'), '256');
  t.is(front.backendKey('sectors'), undefined);
  await front.connect();
  const told = ['feature-flush-cache', 'feature-barrier', 'feature-discard', 'sectors', 'info', 'sector-size', 'mode'];
  t.deepEqual(told.map((key) => front.backendKey(key)), ['1', '1', '1', '2048', '0', '512', 'w']);
  t.is(front.backendKey('feature-persistent'), undefined);
  await front.disconnect();
  const cd = lab.front(1);
  await cd.connect();
  const toldOfCd = ['feature-discard', 'info', 'mode', 'device-type', 'removable'];
  t.deepEqual(toldOfCd.map((key) => cd.backendKey(key)), [undefined, '7', 'r', 'cdrom', '1']);
  t.is(await cd.transfer(true, 0, [lab.guest.page()]), -1);
  await cd.disconnect();
  t.deepEqual([...front.complaints, ...cd.complaints], []);
  t.is(await lab.close(), 0);
});

test('E55: a frontend without a protocol node speaks the configured default, which is x86_32 unless said otherwise', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048));
  lab.backend(lab.image(2048, 'b.img'), { defaultProtocol: 'x86_64-abi' });
  const old = lab.front(0, { abi: BLKIF_X86_32, keys: { protocol: undefined } });
  await old.connect();
  const configured = lab.front(1, { keys: { protocol: undefined } });
  await configured.connect();
  for (const front of [old, configured]) {
    t.is(await front.transfer(false, 8, [lab.guest.page()]), 0);
    await front.disconnect();
    t.deepEqual(front.complaints, []);
  }
  t.is(await lab.close(), 0);
});

test('E71: a frontend that closes with 32 requests in flight gets every answer before Closed, and can come back', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(32768);
  const backend = lab.backend(path);
  const front = lab.front();
  for (let round = 1; round <= 5; round++) {
    await front.connect();
    const pages = Array.from({ length: 32 }, () => Array.from({ length: 64 }, () => lab.guest.page()));
    const answers = pages.map((list, i) => front.transfer(true, i * 512, list));
    // What the backend has not taken yet is not in flight, and nobody owes an answer to it.
    while (backend.stats().wr_req < 32 * round) await sleep(0);
    front.setState(XenbusState.Closed);
    await front.waitBackend(XenbusState.Closed);
    front.takeBack();
    t.deepEqual(await Promise.all(answers), new Array(32).fill(0));
    t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
    for (const list of pages) for (const page of list) lab.guest.freePage(page);
  }
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('a disk that is closed removes its device from the store and its worker from the process', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(2048);
  const backend = lab.backend(path);
  const front = lab.front();
  await front.connect();
  await backend.close();
  await backend.close();
  t.false(lab.store.exists(front.backendPath));
  t.false(lab.store.exists(front.frontendPath));
  front.takeBack();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('a detach waits for the guest to let go, then the disk is removed', async (t) => {
  const lab = new BlockLab();
  const backend = lab.backend(lab.image(2048));
  const front = lab.front();
  await front.connect();
  backend.detach();
  await front.waitBackend(XenbusState.Closing);
  t.deepEqual(lab.removed, []);
  front.setState(XenbusState.Closing);
  await sleep(20);
  front.setState(XenbusState.Closed);
  for (let tries = 0; tries < 500 && lab.removed.length === 0; tries++) await sleep(10);
  t.deepEqual(lab.removed, ['xvda']);
  t.false(lab.store.exists(front.backendPath));
  front.takeBack();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('a machine that is reset gets its pages back before the reset goes on, and the disk anew after it', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(32768);
  const backend = lab.backend(path);
  const front = lab.front();
  await front.connect();
  const answers = Array.from({ length: 16 }, (_, i) => front.transfer(true, i * 88, [lab.guest.page()]));
  while (backend.stats().wr_req < 16) await sleep(0);
  await backend.letGo();
  t.is(lab.ports.bound, 0);
  t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
  front.takeBack();
  t.deepEqual(await Promise.all(answers), new Array(16).fill(0));
  t.deepEqual(front.complaints, []);
  lab.store.remove('/local/domain/1');
  backend.restart();
  const next = lab.front();
  await next.connect();
  t.is(await next.transfer(false, 0, [lab.guest.page()]), 0);
  await next.disconnect();
  t.deepEqual(next.complaints, []);
  t.is(await lab.close(), 0);
});
