/** Several queues of one vif, each with its thread; and what an operator changes while they run. */
import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { OperatorError } from '../../../shim/observe/errors.js';
import { queueRefs } from './fake-netfront.js';
import { plainFrame } from './frames.js';
import type { LinkFrame } from './rig.js';
import { until, VifLab } from './vif-lab.js';
import type { FrontOptions } from './vif-lab.js';

/** A frame each way through every queue. */
async function traffic(lab: VifLab, rounds = 3): Promise<string[]> {
  const wrong: string[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const [i, queue] of lab.front.queues.entries()) {
      const wire = lab.link.wires[i]!;
      const out = plainFrame(100 + i * 50 + round, i);
      queue.send(out);
      let got: LinkFrame | undefined;
      await until(() => (got = wire.receive()) !== undefined, () => `queue ${i} sent nothing`);
      if (!Buffer.from(got!.frame).equals(out)) wrong.push(`sent ${i}`);
      await until(() => queue.txResponses().length > 0);
      const into = plainFrame(200 + i * 60 + round, 255 - i);
      queue.postRx(1);
      wire.send(into);
      await until(() => queue.rx.responses !== queue.rx.cons, () => `queue ${i} received nothing`);
      const [first] = queue.rxResponses();
      const { id, status } = first!;
      if (!Buffer.from(lab.front.rxBuffer(id).subarray(0, status)).equals(into)) wrong.push(`received ${i}`);
    }
  }
  return wrong;
}

for (const split of [false, true]) {
  test(`four queues carry their own frames, with ${split ? 'two channels' : 'one channel'} each`, async (t) => {
    const lab = new VifLab({ queues: 4 });
    await lab.backendState(2);
    t.is(lab.key('multi-queue-max-queues'), '4');
    await lab.connect({ split });
    t.is(lab.ports.bound, split ? 8 : 4);
    t.deepEqual(await traffic(lab), []);
    const { queues, txPackets, rxPackets } = lab.backend.stats();
    t.deepEqual(queues.map((queue) => [queue.txPackets, queue.rxPackets, queue.txSlots, queue.rxSlots]), new Array(4).fill([3, 3, 3, 3]));
    t.deepEqual([txPackets, rxPackets], [12, 12]);
    await lab.disconnect();
    t.is(lab.pins(), 0);
    t.is(lab.ports.bound, 0);
    t.is(lab.link.asked.at(-1), 1);
    await lab.connect({ split });
    t.deepEqual(await traffic(lab), []);
    t.is(await lab.close(), 0);
  });
}

test('a frontend that uses one of four queues offered gets one', async (t) => {
  const lab = new VifLab({ queues: 4 });
  const [tx, rx] = queueRefs(0).map(String);
  lab.offer({ keys: { 'multi-queue-num-queues': undefined, 'tx-ring-ref': tx, 'rx-ring-ref': rx, 'event-channel': '1' } });
  await lab.backendState(4);
  t.is(lab.ports.bound, 1);
  lab.front.send(plainFrame(100));
  await until(() => lab.wire.receive() !== undefined);
  t.is(lab.backend.stats().queues.length, 1);
  t.is(await lab.close(), 0);
});

const broken: readonly (readonly [string, string, FrontOptions, RegExp])[] = [
  ['E54', 'no queues', { keys: { 'multi-queue-num-queues': '0' } }, /^22 /],
  ['E54', 'five queues of four', { keys: { 'multi-queue-num-queues': '5' } }, /^22 /],
  ['E52', 'a third queue without its ring', { keys: { 'queue-2/tx-ring-ref': undefined } }, /^22 /],
  ['E52', 'a last queue whose ring grants nothing', { keys: { 'queue-3/rx-ring-ref': '511' } }, /^22 mapping rx ring/],
  ['E53', 'a last queue on a port that is none', { keys: { 'queue-3/event-channel': '999' } }, /^22 /],
];
for (const [number, what, options, error] of broken) {
  test(`${number}: ${what} fails the whole connection, and nothing of the other queues stays behind`, async (t) => {
    const lab = new VifLab({ queues: 4 });
    await lab.backendState(2);
    lab.offer(options);
    await until(() => lab.error !== undefined);
    t.regex(lab.error!, error);
    await lab.backendState(5);
    t.is(lab.pins(), 0);
    t.is(lab.ports.bound, 0);
    lab.setState(6);
    await lab.backendState(6);
    lab.setState(1);
    await lab.backendState(2);
    await lab.connect();
    t.deepEqual(await traffic(lab, 1), []);
    t.is(await lab.close(), 0);
  });
}

test('E75: one queue that breaks the protocol takes the others and the carrier along, until a reconnect', async (t) => {
  const lab = new VifLab({ queues: 3 });
  await lab.connect();
  const [, second, third] = lab.front.queues;
  second!.tx.prod = 300;
  second!.pushTx(true);
  await until(() => !lab.link.carrier);
  await sleep(20);
  third!.send(plainFrame(100));
  await sleep(50);
  t.is(lab.link.wires[2]!.receive(), undefined);
  t.is(third!.tx.responses, 0);
  await lab.disconnect();
  await lab.connect();
  t.true(lab.link.carrier);
  t.deepEqual(await traffic(lab, 1), []);
  t.is(await lab.close(), 0);
});

test('E83: the rate of a vif is that of all its queues together', async (t) => {
  const lab = new VifLab({ queues: 4, rate: '1000,60000000' });
  await lab.connect();
  for (const queue of lab.front.queues) queue.send(plainFrame(500));
  const sent = (): number => lab.front.queues.reduce((sum, queue) => sum + queue.tx.responses, 0);
  await until(() => sent() === 2);
  await sleep(100);
  t.is(sent(), 2);
  lab.backend.set({ rate: '' });
  await until(() => sent() === 4);
  t.is(await lab.close(), 0);
});

test('E72: connections of several queues, with and without a control ring, again and again leave no pin, port or thread', async (t) => {
  t.timeout(120_000);
  const lab = new VifLab({ queues: 2 });
  for (let round = 0; round < 12; round++) {
    await lab.connect({ split: round % 2 === 0, control: round % 3 === 0 });
    if (round % 4 === 0) t.deepEqual(await traffic(lab, 1), []);
    await lab.disconnect();
    if (lab.pins() !== 0 || lab.ports.bound !== 0) t.fail(`round ${round}`);
  }
  t.is(await lab.close(), 0);
});

test('a frontend reconfigures its headroom while connected, is answered, and may do so again', async (t) => {
  const lab = new VifLab();
  await lab.connect();
  for (const headroom of [256, 0, 512]) {
    lab.store.write(`${lab.frontPath}/xdp-headroom`, String(headroom));
    lab.setState(7);
    await lab.backendState(8);
    lab.setState(4);
    await lab.backendState(4);
    lab.front.postRx(2);
    lab.wire.send(plainFrame(100));
    await until(() => lab.front.rx.responses !== lab.front.rx.cons);
    const [first] = lab.front.rxResponses();
    t.is(first!.offset, headroom);
    t.is(first!.status, 100);
  }
  t.is(lab.ports.bound, 1);
  t.is(await lab.close(), 0);
});

test('request-multicast-control works from the moment it is written', async (t) => {
  const lab = new VifLab();
  await lab.connect();
  const group = plainFrame(60);
  group.set([1, 0, 0x5e, 0, 0, 9]);
  lab.store.write(`${lab.frontPath}/request-multicast-control`, '1');
  await sleep(250);
  lab.front.postRx(4);
  lab.wire.send(group);
  await until(() => lab.backend.stats().rxDropFiltered === 1);
  lab.store.write(`${lab.frontPath}/request-multicast-control`, '0');
  await sleep(250);
  lab.wire.send(group);
  await until(() => lab.backend.stats().rxPackets === 1);
  t.is(await lab.close(), 0);
});

test('mac, mtu, rate and link state set from outside are where the guest looks for them, and stay over a reset', async (t) => {
  const lab = new VifLab({ mtu: 9000 });
  await lab.connect();
  t.is(lab.store.read(`${lab.frontPath}/mtu`), '9000');
  t.is(lab.link.mtus.at(-1), 9000);
  lab.backend.set({ mac: '00:16:3E:0A:0B:0C', mtu: 4000, rate: '8Mb/s', up: false });
  const seen = (): unknown[] => [
    lab.key('mac'), lab.store.read(`${lab.frontPath}/mac`), lab.store.read(`${lab.frontPath}/mtu`), lab.key('rate'), lab.key('carrier'),
  ];
  const expected = ['00:16:3e:0a:0b:0c', '00:16:3e:0a:0b:0c', '4000', '50000,50000', '0'];
  t.deepEqual(seen(), expected);
  t.is(lab.link.mtus.at(-1), 4000);
  t.false(lab.link.carrier);
  t.false(lab.backend.stats().carrier);
  await lab.backend.letGo();
  lab.backend.restart();
  await lab.backendState(2);
  t.deepEqual(seen(), expected);
  await lab.connect();
  t.false(lab.link.carrier);
  lab.front.send(plainFrame(100));
  await until(() => lab.backend.stats().txDropDown === 1);
  lab.backend.set({ up: true });
  t.true(lab.link.carrier);
  await until(() => {
    lab.front.send(plainFrame(100));
    return lab.wire.receive() !== undefined;
  });
  t.is(await lab.close(), 0);
});

test('nothing is set if one of the values is none', async (t) => {
  const lab = new VifLab();
  await lab.backendState(2);
  const before = lab.key('mac');
  const code = (change: Parameters<typeof lab.backend.set>[0]): string | undefined =>
    t.throws(() => lab.backend.set(change), { instanceOf: OperatorError }).code;
  t.is(code({ mac: '00:16:3e:00:00:01', mtu: 60 }), 'MTU');
  t.is(code({ mac: '00:16:3e:00:00:01', mtu: 65518 }), 'MTU');
  t.is(code({ mac: '00:16:3e:00:00:01', rate: 'fast' }), 'RATE_SYNTAX');
  t.is(code({ mac: '01:16:3e:00:00:01', mtu: 1400 }), 'MAC_SYNTAX');
  t.is(lab.key('mac'), before);
  t.is(lab.store.read(`${lab.frontPath}/mtu`), undefined);
  await lab.close();
});

test('without scatter-gather the link is held at 1500 bytes', async (t) => {
  const lab = new VifLab({ mtu: 9000 });
  await lab.connect({ keys: { 'feature-sg': undefined } });
  t.is(lab.link.mtus.at(-1), 1500);
  await lab.disconnect();
  await lab.connect();
  t.is(lab.link.mtus.at(-1), 9000);
  t.is(await lab.close(), 0);
});
