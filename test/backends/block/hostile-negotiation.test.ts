import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';

import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { removeDevice } from '../../../shim/xenbus/toolstack.js';
import type { BlkfrontOptions } from '../../helpers/fake-frontend-blkif.js';
import { BlockLab } from './lab.js';

/** A frontend that cannot be connected, beside one that works all the time; the error node afterwards. */
async function refused(options: Partial<BlkfrontOptions>): Promise<{ error: string | undefined; healthy: boolean; left: number }> {
  const lab = new BlockLab();
  lab.backend(lab.image(2048), { maxQueues: 2 });
  lab.backend(lab.image(2048, 'other.img'));
  const other = lab.front(1);
  await other.connect();
  const front = lab.front(0, options);
  await front.initialise();
  await front.waitBackend(XenbusState.Closing);
  const error = lab.error();
  const page = lab.guest.page();
  let healthy = (await other.transfer(false, 0, [page])) === 0;
  // The disk can still be had by a driver that does better.
  front.setState(XenbusState.Closed);
  await front.waitBackend(XenbusState.Closed);
  front.takeBack();
  const better = lab.front(0);
  await better.connect();
  healthy &&= (await better.transfer(false, 0, [page])) === 0;
  await better.disconnect();
  await other.disconnect();
  healthy &&= [front, other, better].every(({ complaints }) => complaints.length === 0) && lab.ports.bound === 0;
  return { error, healthy, left: await lab.close() };
}

const einval: [string, Record<string, string | undefined>][] = [
  ['E52: ring-ref missing', { 'ring-ref': undefined }],
  ['E52: ring-ref "-1"', { 'ring-ref': '-1' }],
  ['E52: ring-ref garbage', { 'ring-ref': 'garbage' }],
  ['E52: ring-ref huge', { 'ring-ref': '99999999999999999999' }],
  ['E52: ring-ref of an entry that grants nothing', { 'ring-ref': '5000' }],
  ['E52: ring-ref beyond the grant table', { 'ring-ref': '4294967295' }],
  ['E53: event-channel of no port', { 'event-channel': '4000' }],
  ['E53: event-channel missing', { 'event-channel': undefined }],
  ['E54: ring-page-order 5', { 'ring-page-order': '5' }],
  ['E54: multi-queue-num-queues 0', { 'multi-queue-num-queues': '0' }],
  ['E54: multi-queue-num-queues above what was offered', { 'multi-queue-num-queues': '3' }],
];

for (const [title, keys] of einval) {
  test(`${title} is fatal EINVAL for that disk, others work, and a better driver connects later`, async (t) => {
    const { error, healthy, left } = await refused({ keys });
    t.regex(error ?? '', /^22 /);
    t.true(healthy);
    t.is(left, 0);
  });
}

test('E55: protocol "sparc" is fatal ENOSYS', async (t) => {
  const { error, healthy, left } = await refused({ keys: { protocol: 'sparc-abi' } });
  t.regex(error ?? '', /^38 /);
  t.true(healthy);
  t.is(left, 0);
});

test('E57: connecting with impossible ring indexes is fatal EIO', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048));
  const front = lab.front();
  await front.initialise();
  front.queues[0]!.ring.setReqProd(33);
  await front.waitBackend(XenbusState.Closing);
  t.regex(lab.error() ?? '', /^5 /);
  front.setState(XenbusState.Closed);
  await front.waitBackend(XenbusState.Closed);
  front.takeBack();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('a ring-page-order of 0 is one page, under either name', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048));
  const front = lab.front(0, { keys: { 'ring-page-order': '0' } });
  await front.connect();
  t.is(await front.transfer(false, 0, [lab.guest.page()]), 0);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('E51: state 1 straight to 4 connects, 4 again changes nothing, 99 is fatal EINVAL and lets go of the rings', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048));
  const front = lab.front();
  await front.initialise();
  front.setState(XenbusState.Connected);
  await front.waitBackend(XenbusState.Connected);
  front.setState(XenbusState.Connected);
  front.setState(XenbusState.Initialised);
  await sleep(20);
  t.is(front.backendState(), XenbusState.Connected);
  t.is(lab.ports.bound, 1);
  front.setState(99);
  await front.waitBackend(XenbusState.Closing);
  t.is(lab.error(), '22 saw state 99 at frontend');
  front.setState(XenbusState.Closed);
  await front.waitBackend(XenbusState.Closed);
  front.takeBack();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('E56: a frontend that overruns its ring while connected is not served, said once in the log, and can close', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048));
  const front = lab.front();
  await front.connect();
  const { ring, port } = front.queues[0]!;
  ring.setReqProd(33);
  for (let i = 0; i < 20; i++) {
    lab.ports.send(port);
    await sleep(2);
  }
  t.is(ring.rspProd, 0);
  t.is(lab.messages.filter((message) => message.includes('overran')).length, 1);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('E95: a backend directory deleted during I/O tears the device down and is not made again', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(32768));
  const front = lab.front();
  await front.connect();
  const answers = Array.from({ length: 20 }, (_, i) => front.transfer(true, i * 88, [lab.guest.page()]));
  answers.forEach((answer) => void answer.catch(() => {}));
  removeDevice(lab.store, lab.id());
  for (let tries = 0; tries < 500 && lab.removed.length === 0; tries++) await sleep(10);
  t.deepEqual(lab.removed, ['xvda']);
  t.false(lab.store.exists(front.backendPath));
  t.is(lab.ports.bound, 0);
  t.is(await lab.close(), 0);
});

test('E94: a frontend whose state is junk is refused, and connects once it speaks properly', async (t) => {
  const lab = new BlockLab();
  lab.backend(lab.image(2048));
  const front = lab.front();
  await front.waitBackend(XenbusState.InitWait);
  front.setState('4\0junk');
  await front.waitBackend(XenbusState.Closing);
  front.setState(XenbusState.Closed);
  await front.waitBackend(XenbusState.Closed);
  await front.connect();
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});
