import test, { type ExecutionContext } from 'ava';

import { BridgeClosed, KvmError, type Bridge, type BridgeEvents } from '../../kvm/bridge.js';
import { native } from '../../kvm/native.js';
import { NONE, Op } from '../../kvm/native-bridge-protocol.js';
import { Plugin, until } from './plugin.js';
import { startService, type Script, type Service } from './service-thread.js';

interface Served {
  readonly bridge: Bridge;
  readonly plugin: Plugin;
  readonly service: Service;
}

/** A connected bridge and a thread that answers its requests. */
async function served(t: ExecutionContext, events: Partial<BridgeEvents>, ...scripts: Script[]): Promise<Served> {
  const plugin = new Plugin();
  plugin.bridge.listen({ hypercall: () => 0, reset: () => {}, ramChanged: () => {}, closed: () => {}, ...events });
  await plugin.connect();
  const service = await startService(plugin.fd, ...scripts);
  t.teardown(async () => {
    await service.stop();
    if (!scripts.some(({ end }) => end)) plugin.end();
    plugin.bridge.close();
  });
  return { bridge: plugin.bridge, plugin, service };
}

test('every request goes out with the number, the words and the descriptors the plugin reads', async (t) => {
  const { bridge, service } = await served(t, {}, {});
  const eventfd = native.eventfd();
  t.teardown(() => native.closeFd(eventfd));
  const key = BigInt(eventfd);
  const rows: [() => void, number, bigint[], number][] = [
    [() => bridge.setLongMode(true), Op.SetLongMode, [1n], 0],
    [() => bridge.setLongMode(false), Op.SetLongMode, [0n], 0],
    [() => bridge.setSharedInfo(0xfeff0), Op.SetSharedInfo, [0xfeff0n], 0],
    [() => bridge.setSharedInfo(undefined), Op.SetSharedInfo, [NONE], 0],
    [() => bridge.setCallbackVector(0xf3), Op.SetCallbackVector, [0xf3n], 0],
    [() => bridge.setVcpuInfo(2, 0x1_2345_6040), Op.SetVcpuInfo, [2n, 0x1_2345_6040n], 0],
    [() => bridge.setVcpuInfo(2, undefined), Op.SetVcpuInfo, [2n, NONE], 0],
    [() => bridge.setVcpuTimeInfo(1, 64), Op.SetVcpuTimeInfo, [1n, 64n], 0],
    [() => bridge.setRunstateArea(3, 4096), Op.SetRunstateArea, [3n, 4096n], 0],
    [() => bridge.setRunstateUpdateFlag(true), Op.SetRunstateUpdate, [1n], 0],
    [() => bridge.setUpcallVector(7, 0x30), Op.SetUpcallVector, [7n, 0x30n], 0],
    [() => bridge.setTimer(1, 5, 2n ** 63n), Op.SetTimer, [1n, 5n, 2n ** 63n], 0],
    [() => bridge.routeSend(4, undefined), Op.RouteSend, [4n, 0n], 0],
    [() => bridge.routeSend(4, { to: 'eventfd', fd: eventfd }), Op.RouteSend, [4n, 1n], 1],
    [() => bridge.routeSend(4, { to: 'port', port: 6, vcpu: 2 }), Op.RouteSend, [4n, 2n, 6n, 2n], 0],
    [() => bridge.bindIrqfd(eventfd, 8, 1), Op.BindIrqfd, [key, 8n, 1n], 1],
    [() => bridge.moveIrqfd(eventfd, 3), Op.MoveIrqfd, [key, 3n], 0],
    [() => bridge.unbindIrqfd(eventfd), Op.UnbindIrqfd, [key], 0],
    [() => bridge.placeOwnPage(0xfc000, 2), Op.PlacePage, [0xfc000n, 2n], 0],
    [() => bridge.systemTime!(), Op.GetTime, [], 0],
    [() => bridge.setKernelPoll(false), Op.SetKernelPoll, [0n], 0],
    [() => bridge.removeOwnPage(0xfc000), Op.RemovePage, [0xfc000n], 0],
  ];
  for (const [request] of rows) request();
  await until(() => service.seen.length === rows.length);
  rows.forEach(([request, op, words, fds], i) => {
    const seen = service.seen[i]!;
    const padded = [...words, ...Array.from({ length: 8 - words.length }, () => 0n)];
    t.deepEqual([seen.op, seen.args, seen.fds.length], [op, padded, fds], String(request));
  });
  const numbers = service.seen.map(({ seq }) => seq);
  t.is(new Set(numbers).size, numbers.length, 'no two requests have the same number');
  for (const { fds } of service.seen) {
    for (const fd of fds) {
      native.eventfdSignal(fd);
      t.is(native.eventfdDrain(eventfd), 1, 'the plugin has the same eventfd');
      native.closeFd(fd);
    }
  }
});

test('the runstate comes back as the kernel tells it', async (t) => {
  const { bridge } = await served(t, {}, { args: [2, 2n ** 63n, 10, 20, 30, 40] });
  t.deepEqual(bridge.getRunstate(0), { state: 2, stateEntryTime: 2n ** 63n, time: [10n, 20n, 30n, 40n] });
});

test('the system time comes back with all its bits', async (t) => {
  const { bridge } = await served(t, {}, { args: [2n ** 53n + 1n] });
  t.is(bridge.systemTime!(), 2n ** 53n + 1n);
});

test('a request the kernel refuses throws KvmError with its name and errno, and the next one works', async (t) => {
  const { bridge } = await served(t, {}, { result: -17 }, { result: -2 }, { result: 0 });
  const exists = t.throws(() => bridge.placeOwnPage(5, 0), { instanceOf: KvmError });
  t.is(exists.errno, 17);
  t.is(exists.operation, 'SET_USER_MEMORY_REGION');
  t.is(t.throws(() => bridge.setVcpuInfo(99, 0), { instanceOf: KvmError }).errno, 2);
  t.notThrows(() => bridge.removeOwnPage(5));
});

test('a reply to an earlier request is not taken for the one waited for', async (t) => {
  const { bridge } = await served(t, {}, { stale: true, args: [1, 2, 3, 4, 5, 6] });
  t.is(bridge.getRunstate(0).state, 1);
});

test('what the plugin says while a reply is waited for is heard afterwards, in order', async (t) => {
  const fd = native.memfd('guest-ram', 4096);
  t.teardown(() => native.closeFd(fd));
  let changes = 0;
  const { bridge, plugin } = await served(t, { ramChanged: () => void changes++ }, {
    before: [
      { op: Op.LogLine, args: [30], text: Buffer.from('one') },
      { op: Op.RamFile, args: [1], fds: [fd] },
      { op: Op.RamBegin, args: [1] },
      { op: Op.RamRange, args: [1, 0, 0x5000, 0x1000] },
      { op: Op.RamEnd, args: [1] },
      { op: Op.LogLine, args: [40], text: Buffer.from('two') },
    ],
  });
  bridge.setLongMode(true);
  await until(() => changes === 1 && plugin.log.length === 2);
  t.deepEqual(plugin.log.map(({ line }) => line), ['one', 'two']);
  t.deepEqual(bridge.ramRanges().map(({ gfn, pages }) => [gfn, pages]), [[5, 1]]);
});

test('a plugin that ends instead of replying makes the request throw BridgeClosed, and its end is told once', async (t) => {
  let closed = 0;
  const { bridge, plugin } = await served(t, { closed: () => void closed++ }, {
    before: [{ op: Op.LogLine, args: [50], text: Buffer.from('no more') }], end: true,
  });
  t.throws(() => bridge.setLongMode(true), { instanceOf: BridgeClosed });
  t.is(closed, 0, 'told in a turn of its own, not inside the request');
  await until(() => closed > 0);
  t.is(closed, 1);
  t.deepEqual(plugin.log.map(({ line }) => line), ['no more']);
});
