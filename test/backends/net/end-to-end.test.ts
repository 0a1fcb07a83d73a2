import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { OperatorError } from '../../../shim/observe/errors.js';
import { Sring } from '../../../shim/abi/io/ring.js';
import { createNetBackend } from '../../../backends/net/driver.js';
import { RX_REF, TX_REF } from './fake-netfront.js';
import { FORMS } from './forms.js';
import { plainFrame } from './frames.js';
import type { LinkFrame } from './rig.js';
import { StubLink, until, VifLab } from './vif-lab.js';
import type { FrontOptions } from './vif-lab.js';

/** Frames through the worker in both directions, each checked. */
async function traffic(lab: VifLab, count: number): Promise<string[]> {
  const wrong: string[] = [];
  for (let i = 0; i < count; i++) {
    const out = plainFrame(60 + i * 37, i);
    const ids = lab.front.send(out);
    let got: LinkFrame | undefined;
    await until(() => (got = lab.wire.receive()) !== undefined);
    if (!Buffer.from(got!.frame).equals(out)) wrong.push(`sent frame ${i}`);
    await until(() => lab.front.tx.responses === lab.front.tx.prod);
    if (lab.front.txResponses().map(({ id }) => id).join() !== ids.join()) wrong.push(`responses ${i}`);

    const into = plainFrame(90 + i * 41, 255 - i);
    lab.front.postRx(2);
    lab.wire.send(into);
    await until(() => lab.front.rx.responses !== lab.front.rx.cons);
    const fragments = lab.front.rxResponses();
    const bytes = fragments.flatMap(({ id, status }) => [...lab.front.rxBuffer(id).subarray(0, status)]);
    if (!Buffer.from(bytes).equals(into)) wrong.push(`received frame ${i}`);
  }
  return wrong;
}

for (const split of [false, true]) {
  test(`frames pass both ways through store, ports and worker, with ${split ? 'two channels' : 'one channel'}`, async (t) => {
    const lab = new VifLab();
    await lab.connect({ split });
    t.is(lab.ports.bound, split ? 2 : 1);
    t.true(lab.link.carrier);
    t.deepEqual(await traffic(lab, 40), []);
    const { txPackets, rxPackets, connected, carrier } = lab.backend.stats();
    t.deepEqual({ txPackets, rxPackets, connected, carrier }, { txPackets: 40, rxPackets: 40, connected: true, carrier: true });
    t.is(await lab.close(), 0);
    t.is(lab.ports.bound, 0);
    t.true(lab.link.closed);
    t.false(lab.store.exists(lab.backPath));
    t.false(lab.store.exists(lab.frontPath));
  });
}

for (const { form, plain } of FORMS) {
  test(`frames that come one at a time, long after one another, wake a worker that has given up spinning${form}`, async (t) => {
    const lab = new VifLab({ plain });
    await lab.connect();
    for (let i = 0; i < 8; i++) {
      t.deepEqual(await traffic(lab, 1), []);
      await sleep(60);
    }
    t.is(await lab.close(), 0);
  });
}

test('what the frontend is offered is there before InitWait, and nothing that does not work', async (t) => {
  const lab = new VifLab({ mac: '00:16:3E:01:02:03', rate: '1000,50000' });
  await lab.backendState(2);
  const one = [
    'feature-sg', 'feature-gso-tcpv4', 'feature-gso-tcpv6', 'feature-ipv6-csum-offload', 'feature-rx-copy',
    'feature-xdp-headroom', 'feature-multicast-control', 'feature-dynamic-multicast-control',
    'feature-split-event-channels', 'feature-ctrl-ring', 'online', 'carrier',
  ];
  for (const key of one) t.is(lab.key(key), '1', key);
  const others = ['feature-rx-flip', 'multi-queue-max-queues', 'mac', 'handle', 'rate', 'type'];
  t.deepEqual(others.map((key) => lab.key(key)), ['0', '1', '00:16:3e:01:02:03', '0', '1000,50000', 'vif']);
  t.is(lab.store.read(`${lab.frontPath}/mac`), '00:16:3e:01:02:03');
  t.false(lab.link.carrier);
  await lab.close();
});

test('the link is told what the frontend takes unfinished, and nothing once it has gone', async (t) => {
  const lab = new VifLab();
  await lab.connect({ keys: { 'feature-gso-tcpv6': undefined } });
  t.deepEqual(lab.link.offloads, { csum4: true, csum6: true, tso4: true, tso6: false });
  await lab.disconnect();
  t.deepEqual(lab.link.offloads, { csum4: false, csum6: false, tso4: false, tso6: false });
  t.false(lab.link.carrier);
  await lab.close();
});

test('a frontend comes back after a close, and its traffic with it', async (t) => {
  const lab = new VifLab();
  for (let round = 0; round < 5; round++) {
    await lab.connect({ split: round % 2 === 1 });
    t.deepEqual(await traffic(lab, 5), []);
    await lab.disconnect();
    t.is(lab.pins(), 0);
    t.is(lab.ports.bound, 0);
  }
  await lab.close();
});

test('E101: frontend sequence 4, 1, 4, 6, 1 with a live worker leaves no connection behind', async (t) => {
  const lab = new VifLab();
  await lab.connect();
  lab.setState(1);
  await lab.backendState(2);
  t.is(lab.pins(), 0);
  await lab.connect();
  t.deepEqual(await traffic(lab, 3), []);
  lab.setState(6);
  await lab.backendState(6);
  lab.setState(1);
  await lab.backendState(2);
  t.is(lab.pins(), 0);
  t.is(lab.ports.bound, 0);
  t.is(lab.error, undefined);
  await lab.close();
});

test('E101: states written faster than anybody can follow end with one connection', async (t) => {
  const lab = new VifLab();
  lab.offer();
  for (let round = 0; round < 50; round++) for (const state of [1, 4, 6, 5, 4, 1, 3]) lab.setState(state);
  await sleep(100);
  lab.setState(1);
  await lab.backendState(2);
  await lab.connect();
  t.deepEqual(await traffic(lab, 3), []);
  t.is(lab.ports.bound, 1);
  await lab.disconnect();
  t.is(await lab.close(), 0);
});

const fatal: readonly (readonly [string, string, FrontOptions, RegExp])[] = [
  ['E52', 'a ring reference that grants nothing', { keys: { 'tx-ring-ref': '511' } }, /^22 mapping tx ring/],
  ['E52', 'a ring reference beyond the table', { keys: { 'rx-ring-ref': '4294967295' } }, /^22 mapping rx ring/],
  ['E53', 'an event channel that is no unbound port', { keys: { 'event-channel': '77' } }, /^22 /],
  ['E88', 'no request-rx-copy', { keys: { 'request-rx-copy': undefined } }, /^95 /],
  ['E88', 'no event channel at all', { keys: { 'event-channel': undefined } }, /^22 /],
  ['E51', 'a state of 99', { keys: { state: '99' } }, /^22 saw state 99 at frontend/],
  ['E94', 'a state that is no number', { keys: { state: '4\0junk' } }, /^22 /],
];
for (const [number, what, options, error] of fatal) {
  test(`${number}: ${what} is fatal for the connection, and the frontend may try again`, async (t) => {
    const lab = new VifLab();
    await lab.backendState(2);
    lab.offer(options);
    if (options.keys?.['state'] !== undefined) lab.setState(options.keys['state']);
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
    t.deepEqual(await traffic(lab, 2), []);
    t.is(await lab.close(), 0);
  });
}

test('E57: a ring attached with more requests than slots is refused with EIO', async (t) => {
  const lab = new VifLab();
  await lab.backendState(2);
  lab.offer();
  lab.front.tx.view.setUint32(Sring.req_prod, 257, true);
  await until(() => lab.error !== undefined);
  t.regex(lab.error!, /^5 tx ring/);
  t.is(await lab.close(), 0);
});

test('E110: a frontend that revokes its ring grants while connected disturbs nobody but itself', async (t) => {
  const lab = new VifLab();
  await lab.connect();
  lab.front.revoke(TX_REF);
  lab.front.revoke(RX_REF);
  t.deepEqual(await traffic(lab, 3), []);
  t.is(await lab.close(), 0);
});

for (const { form, plain } of FORMS) {
  test(`a machine that is reset under traffic finds its vif as on the first day, on the same link${form}`, async (t) => {
    const lab = new VifLab({ plain });
    for (let round = 0; round < 3; round++) {
      await lab.connect();
      t.deepEqual(await traffic(lab, 3), []);
      await lab.backend.letGo();
      t.is(lab.pins(), 0);
      t.is(lab.ports.bound, 0);
      t.false(lab.link.carrier);
      t.false(lab.link.closed);
      lab.store.remove(lab.frontPath);
      lab.store.remove(lab.backPath);
      lab.backend.restart();
      await lab.backendState(2);
      t.is(lab.key('hotplug-status'), 'connected');
    }
    t.is(lab.removed, 0);
    t.is(await lab.close(), 0);
  });
}

test('E111: one page as both rings, and as a transmit buffer too, disturbs nobody but that vif', async (t) => {
  const lab = new VifLab();
  await lab.connect({ keys: { 'rx-ring-ref': String(TX_REF) } });
  for (let i = 0; i < 20; i++) {
    lab.front.putTx({ gref: TX_REF, size: 1000, offset: 100 });
    lab.front.pushTx(true);
    lab.wire.send(plainFrame(500));
    await sleep(1);
  }
  await lab.disconnect();
  await lab.connect();
  while (lab.wire.receive() !== undefined);
  t.deepEqual(await traffic(lab, 3), []);
  t.is(await lab.close(), 0);
});

for (const { form, plain } of FORMS) {
  test(`frames the link kept from before a connection do not reach it${form}`, async (t) => {
    const lab = new VifLab({ plain });
    await lab.backendState(2);
    for (let i = 0; i < 50; i++) lab.wire.send(plainFrame(300));
    await lab.connect();
    t.deepEqual(await traffic(lab, 2), []);
    t.is(lab.backend.stats().rxPackets, 2);
    t.is(await lab.close(), 0);
  });
}

test('E75: a vif disabled for its ring index loses its carrier, and a reconnect brings it back', async (t) => {
  const lab = new VifLab();
  await lab.connect();
  lab.front.tx.prod = 257;
  lab.front.pushTx(true);
  await until(() => !lab.link.carrier);
  t.false(lab.backend.stats().carrier);
  t.true(lab.messages.some((message) => message.includes('broke the protocol')));
  await lab.disconnect();
  await lab.connect();
  t.true(lab.link.carrier);
  t.deepEqual(await traffic(lab, 3), []);
  t.is(await lab.close(), 0);
});

test('E83: a rate written while the guest is connected applies at once, and nonsense lifts it with a warning', async (t) => {
  const lab = new VifLab();
  await lab.connect();
  lab.store.write(`${lab.backPath}/rate`, '1000,60000000');
  await sleep(50);
  for (let i = 0; i < 4; i++) lab.front.send(plainFrame(500));
  await until(() => lab.front.tx.responses === 2);
  await sleep(100);
  t.is(lab.front.tx.responses, 2);
  lab.store.write(`${lab.backPath}/rate`, 'abc');
  await until(() => lab.front.tx.responses === 4);
  t.true(lab.messages.some((message) => message.includes('unlimited')));
  t.is(await lab.close(), 0);
});

test('E95: a backend directory removed under traffic ends the vif, and is not made again', async (t) => {
  const lab = new VifLab();
  await lab.connect();
  t.deepEqual(await traffic(lab, 3), []);
  lab.store.remove(lab.backPath);
  await until(() => lab.removed === 1);
  t.false(lab.store.exists(lab.backPath));
  t.true(lab.link.closed);
  t.is(await lab.close(), 0);
});

test('a detach goes through the frontend, and the vif closes itself afterwards', async (t) => {
  const lab = new VifLab();
  await lab.connect();
  lab.backend.detach();
  await until(() => lab.key('state') === '5');
  lab.setState(5);
  lab.setState(6);
  await until(() => lab.removed === 1);
  t.true(lab.link.closed);
  t.is(await lab.close(), 0);
});

test('closing while a connection is being made leaves nothing behind', async (t) => {
  for (const wait of [0, 1, 5, 20]) {
    const lab = new VifLab();
    lab.offer();
    await sleep(wait);
    t.is(await lab.close(), 0);
    t.is(lab.ports.bound, 0);
    t.true(lab.link.closed);
  }
});

test('an address that is none, and a link that is none, are the operator\'s mistakes', (t) => {
  t.is(t.throws(() => new VifLab({ mac: '01:00:00:00:00:01' }), { instanceOf: OperatorError }).code, 'MAC_SYNTAX');
  const options = { domid: 1, index: 0 } as unknown as Parameters<typeof createNetBackend>[0];
  for (const link of ['bridge', 'tun=x', '=', 'constructor=x']) {
    t.is(t.throws(() => createNetBackend({ ...options, link }), { instanceOf: OperatorError }).code, 'VIF_LINK', link);
  }
  t.is(new StubLink().description, 'stub');
});
