import test, { type ExecutionContext } from 'ava';
import { fstatSync } from 'node:fs';

import { ANY_KVM, BridgeClosed, type BridgeEvents, type HypercallExit } from '../../kvm/bridge.js';
import { native } from '../../kvm/native.js';
import { layout, Op, SlotKind, SlotState } from '../../kvm/native-bridge-protocol.js';
import { nextTurn, Plugin, until } from './plugin.js';

const nothing: BridgeEvents = { hypercall: () => 0, reset: () => {}, ramChanged: () => {}, closed: () => {} };

/** A connected bridge whose shim does `events`; closed at the test's end. */
async function connected(t: ExecutionContext, events: Partial<BridgeEvents> = {}): Promise<Plugin> {
  const plugin = new Plugin();
  t.teardown(() => plugin.close());
  plugin.bridge.listen({ ...nothing, ...events });
  return plugin.connect();
}

// The greeting --------------------------------------------------------------------------------------------------------

test('the hello is answered with protocol version, own pages, Xen version and three descriptors', async (t) => {
  const plugin = new Plugin(7);
  t.teardown(() => plugin.close());
  await plugin.connect(0x1ff);
  const { op, args, fds } = plugin.init;
  t.is(op, Op.Init);
  t.deepEqual(args.slice(0, 3), [BigInt(layout.version), 7n, 0x4_0013n]);
  t.is(fds.length, 3);
  t.is(fstatSync(fds[0]!).size, layout.sharedSize);
  t.is(fstatSync(fds[1]!).size, 7 * 4096);
  t.is(await plugin.bridge.connected, 0x1ff);
  t.is(plugin.bridge.capabilities, 0x1ff);
});

test('on any KVM the plugin is told what to stand in for, and the shim counts on just that', async (t) => {
  const plugin = new Plugin(4, true);
  t.teardown(() => plugin.close());
  await plugin.connect(0);
  t.is(plugin.init.args[3], BigInt(ANY_KVM));
  t.is(await plugin.bridge.connected, ANY_KVM);
  t.is(plugin.bridge.capabilities, ANY_KVM);
  const other = new Plugin();
  t.teardown(() => other.close());
  await other.connect(0x1ff);
  t.is(other.init.args[3], 0n);
});

test('the shared memory carries magic, version and a spin time, and says that the shim sleeps', async (t) => {
  const plugin = await connected(t);
  t.is(plugin.headerWord('magic') >>> 0, layout.magic);
  t.is(plugin.headerWord('version'), layout.version);
  t.is(plugin.headerWord('sleeping'), 1);
  t.true(plugin.headerWord('spin_ns') > 0 && plugin.headerWord('spin_ns') < 1e6);
});

test('own pages are one memory on both sides', async (t) => {
  const plugin = await connected(t);
  const theirs = new Uint8Array(native.mapShared(plugin.init.fds[1]!, 0, 4 * 4096, 0).buffer);
  t.is(plugin.bridge.own.pages, 4);
  new Uint8Array(plugin.bridge.own.buffer)[3 * 4096 + 5] = 0xa5;
  t.is(theirs[3 * 4096 + 5], 0xa5);
});

test('vCPUs are listed as the plugin creates them, in ascending order, up to the last', async (t) => {
  const plugin = await connected(t);
  t.deepEqual(plugin.bridge.vcpus(), []);
  for (const id of [33, 0, 1, layout.maxVcpus - 1, 31]) plugin.create(id);
  t.deepEqual(plugin.bridge.vcpus(), [0, 1, 31, 33, layout.maxVcpus - 1]);
});

// Hypercalls ----------------------------------------------------------------------------------------------------------

test('a hypercall reaches the shim with every register and its answer comes back sign-extended', async (t) => {
  const exits: HypercallExit[] = [];
  const plugin = await connected(t, { hypercall: (exit) => (exits.push(exit), -38) });
  const args = [2n ** 64n - 1n, 1n, 0x8000_0000_0000_0000n, 3n, 4n, 5n];
  plugin.post(5, {
    nr: 0xffff_fffe, args, cpl: 3, longMode: false, cr0: 0x8005_0033n, cr3: 0x1234_5000n, cr4: 0x6f0n, efer: 0xd01n,
  });
  t.is(await plugin.answer(5), -38n);
  t.is(exits.length, 1);
  const [exit] = exits;
  t.deepEqual({ ...exit!, args: [...exit!.args] }, {
    vcpu: 5, nr: 0xffff_fffe, args, cpl: 3, longMode: false,
    cr0: 0x8005_0033n, cr3: 0x1234_5000n, cr4: 0x6f0n, efer: 0xd01n,
  });
});

test('a waiting vCPU cannot change the arguments the shim has taken', async (t) => {
  let taken: HypercallExit | undefined;
  const plugin = await connected(t, { hypercall: (exit) => void (taken = exit) });
  plugin.post(0, { nr: 1, args: [7n] });
  await until(() => taken !== undefined);
  const { header, slot } = layout;
  new DataView(plugin.memory).setBigUint64(header.SIZE + slot.args, 666n, true);
  t.is(taken!.args[0], 7n);
});

test('the doorbell is needed only while the shim sleeps', async (t) => {
  const order: number[] = [];
  const plugin = await connected(t, {
    hypercall: ({ vcpu }) => {
      order.push(vcpu);
      // The shim is awake: this one must be found without a ring.
      if (vcpu === 0) t.false(plugin.post(1));
      return 0;
    },
  });
  t.true(plugin.post(0));
  await plugin.answer(1);
  t.deepEqual(order, [0, 1]);
  await plugin.asleep();
  t.true(plugin.post(2));
  await plugin.answer(2);
});

test('a ring without a request is no harm', async (t) => {
  const plugin = await connected(t, { hypercall: () => t.fail() as never });
  native.eventfdSignal(plugin.init.fds[2]!);
  await nextTurn();
  await plugin.asleep();
  t.is(plugin.state(0), SlotState.idle);
});

test('a pending bit of a slot without a request is passed over', async (t) => {
  const seen: number[] = [];
  const plugin = await connected(t, { hypercall: ({ vcpu }) => (seen.push(vcpu), 0) });
  plugin.post(3);
  const { header, slot } = layout;
  Atomics.store(new Int32Array(plugin.memory), (header.SIZE + 3 * slot.SIZE + slot.state) >> 2, SlotState.idle);
  plugin.post(4);
  await plugin.answer(4);
  t.deepEqual(seen, [4]);
  t.is(plugin.state(3), SlotState.idle);
});

test('all vCPUs that wait at once are answered, each with its own result', async (t) => {
  const plugin = await connected(t, { hypercall: ({ vcpu, args }) => vcpu * 1000 + Number(args[0]) });
  const ids = Array.from({ length: layout.maxVcpus }, (_, id) => id);
  const rings = ids.filter((id) => plugin.post(id, { args: [BigInt(id % 7)] }));
  t.deepEqual(rings, [0]);
  for (const id of ids) t.is(await plugin.answer(id), BigInt(id * 1000 + (id % 7)), `vCPU ${id}`);
});

test('an answer may be left for later while others are served', async (t) => {
  const plugin = await connected(t, { hypercall: ({ vcpu }) => (vcpu === 0 ? undefined : 1) });
  plugin.post(0);
  plugin.post(1);
  t.is(await plugin.answer(1), 1n);
  await plugin.asleep();
  t.is(plugin.state(0), SlotState.request);
  plugin.bridge.complete(0, -11);
  t.is(plugin.take(0), -11n);
});

test('an answer to a vCPU that no longer waits changes nothing', async (t) => {
  const plugin = await connected(t, { hypercall: () => undefined });
  plugin.post(0);
  await plugin.asleep();
  plugin.drop(0);
  plugin.bridge.complete(0, 5);
  t.is(plugin.state(0), SlotState.idle);
  plugin.bridge.complete(9, 5);
  t.is(plugin.state(9), SlotState.idle);
});

test('two answers to one hypercall: the first counts', async (t) => {
  const plugin = await connected(t, { hypercall: () => 1 });
  plugin.post(0);
  await until(() => plugin.state(0) === SlotState.done);
  plugin.bridge.complete(0, 2);
  t.is(plugin.take(0), 1n);
});

test('vCPUs that call without a pause do not keep the event loop from its turn', async (t) => {
  let calls = 0;
  let stop = false;
  const plugin = await connected(t, {
    hypercall: ({ vcpu }) => {
      calls++;
      // The other vCPU of the pair calls again at once.
      plugin.take(1 - vcpu);
      if (!stop && calls < 100_000) plugin.post(1 - vcpu);
      return 0;
    },
  });
  plugin.post(0);
  await until(() => calls > 0);
  await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, 1));
  const atTurn = calls;
  stop = true;
  t.true(atTurn > 64, `${atTurn} calls: it was served further in between`);
  t.true(atTurn < 100_000, 'the timers had to wait for the last call');
});

// Reset ---------------------------------------------------------------------------------------------------------------

test('the machine starts again only when the shim has finished its reset, and others are served meanwhile', async (t) => {
  let finish: () => void = () => {};
  let resets = 0;
  const plugin = await connected(t, {
    reset: () => {
      resets++;
      return new Promise((resolve) => (finish = resolve));
    },
    hypercall: () => 4,
  });
  plugin.post(0, {}, SlotKind.reset);
  await until(() => resets === 1);
  plugin.post(1);
  t.is(await plugin.answer(1), 4n);
  t.is(plugin.state(0), SlotState.request);
  finish();
  t.is(await plugin.answer(0), 0n);
  t.is(resets, 1);
});

test('a reset that is done at once is answered at once', async (t) => {
  let resets = 0;
  const plugin = await connected(t, { reset: () => void resets++ });
  plugin.post(0, {}, SlotKind.reset);
  t.is(await plugin.answer(0), 0n);
  plugin.post(0, {}, SlotKind.reset);
  t.is(await plugin.answer(0), 0n);
  t.is(resets, 2);
});

// RAM -----------------------------------------------------------------------------------------------------------------

function ramFile(t: ExecutionContext, pages: number): number {
  const fd = native.memfd('guest-ram', pages * 4096);
  t.teardown(() => native.closeFd(fd));
  return fd;
}

test('RAM is known with its files, offsets and frames once the announcement is complete', async (t) => {
  let changes = 0;
  const plugin = await connected(t, { ramChanged: () => void changes++ });
  const fd = ramFile(t, 8);
  new Uint8Array(native.mapShared(fd, 0, 8 * 4096, 0).buffer)[3 * 4096] = 0x5a;
  t.deepEqual(plugin.bridge.ramRanges(), []);
  plugin.announce(1, [
    { file: 7, offset: 0, gfn: 0, pages: 2 },
    { file: 7, offset: 3 * 4096, gfn: 0x10_0000, pages: 5 },
  ], { 7: fd });
  await until(() => changes === 1);
  const ranges = plugin.bridge.ramRanges();
  t.deepEqual(ranges.map(({ offset, gfn, pages }) => ({ offset, gfn, pages })), [
    { offset: 0, gfn: 0, pages: 2 },
    { offset: 3 * 4096, gfn: 0x10_0000, pages: 5 },
  ]);
  const [, high] = ranges;
  t.is(new Uint8Array(native.mapShared(high!.fd, high!.offset, 4096, 0).buffer)[0], 0x5a);
});

test('RAM announced before a hypercall is known when the hypercall is looked at', async (t) => {
  const fd = ramFile(t, 8);
  const seen: number[][] = [];
  const plugin = await connected(t, {
    hypercall: ({ vcpu }) => {
      seen.push(plugin.bridge.ramRanges().map(({ gfn }) => gfn));
      // The next call comes while the shim is awake, so no turn of the event loop lies between.
      if (vcpu < 2) {
        plugin.announce(vcpu + 1, [{ file: 1, offset: 0, gfn: 16 << vcpu, pages: 8 }], vcpu === 0 ? { 1: fd } : {});
        plugin.post(vcpu + 1);
      }
      return 0;
    },
  });
  plugin.post(0);
  await plugin.answer(2);
  t.deepEqual(seen, [[], [16], [32]]);
});

test('an announcement replaces the one before, and half of one is not shown', async (t) => {
  let changes = 0;
  const plugin = await connected(t, { ramChanged: () => void changes++ });
  plugin.announce(1, [{ file: 1, offset: 0, gfn: 0, pages: 8 }], { 1: ramFile(t, 8) });
  await until(() => changes === 1);
  plugin.send({ op: Op.RamBegin, args: [2] });
  plugin.send({ op: Op.LogLine, args: [30], text: Buffer.from('here') });
  await until(() => plugin.log.length === 1);
  t.is(plugin.bridge.ramRanges().length, 1);
  plugin.send({ op: Op.RamEnd, args: [2] });
  await until(() => changes === 2);
  t.deepEqual(plugin.bridge.ramRanges(), []);
});

test('a range in a file that was never sent is left out', async (t) => {
  let changes = 0;
  const plugin = await connected(t, { ramChanged: () => void changes++ });
  plugin.announce(1, [{ file: 9, offset: 0, gfn: 0, pages: 8 }, { file: 1, offset: 0, gfn: 32, pages: 8 }],
    { 1: ramFile(t, 8) });
  await until(() => changes === 1);
  t.deepEqual(plugin.bridge.ramRanges().map(({ gfn }) => gfn), [32]);
});

// Log and end ---------------------------------------------------------------------------------------------------------

test("the plugin's log lines come in order, with their levels and up to the last byte", async (t) => {
  const plugin = await connected(t);
  const full = layout.message.SIZE - layout.message.text;
  plugin.send({ op: Op.LogLine, args: [30], text: Buffer.from('first ✓') });
  plugin.send({ op: Op.LogLine, args: [50], text: Buffer.alloc(full, 'x') });
  plugin.send({ op: Op.LogLine, args: [20] });
  await until(() => plugin.log.length === 3);
  t.deepEqual(plugin.log, [
    { level: 30, line: 'first ✓' }, { level: 50, line: 'x'.repeat(full) }, { level: 20, line: '' },
  ]);
});

test('a message of an unknown kind is passed over', async (t) => {
  const plugin = await connected(t);
  plugin.send({ op: 255 });
  plugin.send({ op: Op.LogLine, args: [30], text: Buffer.from('after') });
  await until(() => plugin.log.length === 1);
  t.is(plugin.log[0]!.line, 'after');
});

test('one-way requests do not wait for the plugin', async (t) => {
  const plugin = await connected(t);
  plugin.bridge.raise(9, 3);
  plugin.bridge.setGsi(28, true);
  plugin.bridge.setGsi(28, false);
  plugin.bridge.power('poweroff');
  plugin.bridge.power('reset');
  plugin.bridge.power('crash');
  const seen = Array.from({ length: 6 }, () => plugin.receive()!);
  t.deepEqual(seen.map(({ op, args }) => [op, Number(args[0]), Number(args[1])]), [
    [Op.Raise, 9, 3], [Op.SetGsi, 28, 1], [Op.SetGsi, 28, 0], [Op.Power, 1, 0], [Op.Power, 2, 0], [Op.Power, 3, 0],
  ]);
});

test('the end of the plugin is told once; later requests throw BridgeClosed, and what nobody waits for is dropped', async (t) => {
  let closed = 0;
  const plugin = await connected(t, { closed: () => void closed++ });
  plugin.end();
  await until(() => closed > 0);
  t.throws(() => plugin.bridge.setSharedInfo(1), { instanceOf: BridgeClosed });
  t.notThrows(() => {
    plugin.bridge.raise(1, 0);
    plugin.bridge.setGsi(1, true);
    plugin.bridge.power('reset');
  });
  t.throws(() => plugin.bridge.getRunstate(0), { instanceOf: BridgeClosed });
  for (let i = 0; i < 5; i++) await nextTurn();
  t.is(closed, 1);
});

test('the end is told once also when vCPUs still wait with memory that was never announced', async (t) => {
  let closed = 0;
  const plugin = await connected(t, {
    closed: () => void closed++,
    hypercall: ({ vcpu }) => {
      if (vcpu === 0) {
        // As in a plugin that dies between its announcement and its calls.
        Atomics.store(new Int32Array(plugin.memory), layout.header.ram_generation >> 2, 5);
        plugin.post(1);
        plugin.post(2);
        plugin.end();
      }
      return 0;
    },
  });
  plugin.post(0);
  await until(() => closed > 0);
  for (let i = 0; i < 5; i++) await nextTurn();
  t.is(closed, 1);
});

test('what the plugin said last is heard although a request failed and others were never read', async (t) => {
  let closed = 0;
  const plugin = await connected(t, { closed: () => void closed++ });
  plugin.bridge.raise(1, 0);
  plugin.send({ op: Op.LogLine, args: [50], text: Buffer.from('last words') });
  plugin.end();
  t.throws(() => plugin.bridge.setTimer(0, 1, 0n), { instanceOf: BridgeClosed });
  await until(() => closed === 1);
  t.deepEqual(plugin.log, [{ level: 50, line: 'last words' }]);
});

test('a bridge that was closed takes no requests, answers no vCPU and reports no end', async (t) => {
  const plugin = await connected(t, { closed: () => t.fail(), hypercall: () => t.fail() as never });
  plugin.bridge.close();
  plugin.bridge.close();
  plugin.post(0);
  t.notThrows(() => {
    plugin.bridge.raise(1, 0);
    plugin.bridge.setGsi(1, true);
    plugin.bridge.power('reset');
  });
  t.throws(() => plugin.bridge.setTimer(0, 1, 0n), { instanceOf: BridgeClosed });
  plugin.end();
  await new Promise((resolve) => setTimeout(resolve, 10));
  t.is(plugin.state(0), SlotState.request);
});

test('a bridge may be closed from within a hypercall', async (t) => {
  let calls = 0;
  const plugin = await connected(t, {
    hypercall: () => {
      calls++;
      plugin.bridge.close();
      return 0;
    },
  });
  plugin.post(0);
  plugin.post(1);
  await until(() => calls > 0);
  await new Promise((resolve) => setTimeout(resolve, 10));
  t.is(calls, 1);
});
