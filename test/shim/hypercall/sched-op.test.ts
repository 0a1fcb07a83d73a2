import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { SchedOp, ShutdownReason } from '../../../shim/abi/sched.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { DEFAULT_ON_SHUTDOWN } from '../../../shim/domain/config.js';
import type { DomainEvents } from '../../../shim/domain/domain.js';
import { errnoName, Guest } from '../../helpers/guest.js';

const sched = (guest: Guest, command: number, fields: Parameters<Guest['argument']>[0]): Promise<number> =>
  guest.issue(HypercallNumber.sched_op, [command, guest.argument(fields)]);

const LIST = 16 * 4096;

/** SCHEDOP_poll of some ports; `timeout` in ns of system time. */
function poll(
  guest: Guest,
  ports: readonly number[],
  timeout = 0n,
  count = ports.length,
  list = LIST,
): Promise<number> {
  const view = guest.at(LIST);
  ports.forEach((port, i) => view.setUint32(i * 4, port, true));
  return guest.longMode
    ? sched(guest, SchedOp.poll, [[0, 8, list], [8, 4, count], [16, 8, timeout]])
    : sched(guest, SchedOp.poll, [[0, 4, list], [4, 4, count], [8, 8, timeout]]);
}

const ipi = (guest: Guest): number => guest.domain.channels.bindIpi(0);

test('E40: polling 129 ports is -EINVAL, 128 are allowed', async (t) => {
  const guest = new Guest().endWith(t);
  const port = ipi(guest);
  guest.domain.channels.send(port);
  t.is(errnoName(await poll(guest, Array.from({ length: 129 }, () => port))), '-EINVAL');
  t.is(errnoName(await poll(guest, [], 0n, 0xffff_ffff)), '-EINVAL');
  t.is(await poll(guest, Array.from({ length: 128 }, () => port)), 0);
});

test('poll of a free port is -EINVAL, of a list that is not there -EFAULT', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(await poll(guest, [900])), '-EINVAL');
  t.is(errnoName(await poll(guest, [0xffff_ffff])), '-EINVAL');
  t.is(errnoName(await poll(guest, [], 0n, 2, 0x7fff_0000)), '-EFAULT');
});

test('poll waits until one of its ports is pending', async (t) => {
  const guest = new Guest().endWith(t);
  const ports = [ipi(guest), ipi(guest)];
  const answered = poll(guest, ports);
  await sleep(10);
  t.true(guest.bridge.isWaiting(0));
  guest.domain.channels.send(ports[1]!);
  t.is(await answered, 0);
});

test('poll sees an event the kernel raised without telling anybody', async (t) => {
  const guest = new Guest().endWith(t);
  const port = ipi(guest);
  const answered = poll(guest, [port]);
  await sleep(5);
  guest.domain.areas.bits.setPending(port);
  t.is(await answered, 0);
});

for (const longMode of [true, false]) {
  test(`the timeout of poll is a time of the system clock, not a duration (${longMode ? 64 : 32}-bit)`, async (t) => {
    const guest = new Guest().endWith(t);
    guest.longMode = longMode;
    const port = ipi(guest);
    t.is(await poll(guest, [port], guest.bridge.clock - 1n), 0, 'past: at once');
    const started = performance.now();
    t.is(await poll(guest, [port], guest.bridge.clock + 20_000_000n), 0);
    const took = performance.now() - started;
    t.true(took >= 19 && took < 2000, `${took} ms`);
  });
}

test('yield and block return', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(await sched(guest, SchedOp.yield, []), 0);
  t.is(await sched(guest, SchedOp.block, []), 0);
});

for (const [reason, action] of [
  [ShutdownReason.poweroff, 'poweroff'],
  [ShutdownReason.reboot, 'reset'],
  [ShutdownReason.crash, 'crash'],
] as const) {
  test(`shutdown for reason ${reason} leaves the vCPU waiting and tells the machine to ${action}`, async (t) => {
    const guest = new Guest().endWith(t);
    const seen: DomainEvents['shutdown'][] = [];
    guest.domain.on('shutdown', (...args) => seen.push(args));
    void sched(guest, SchedOp.shutdown, [[0, 4, reason]]);
    await sleep(5);
    t.true(guest.bridge.isWaiting(0));
    t.deepEqual(guest.bridge.callsOf('power'), [[action]]);
    t.deepEqual(seen, [[reason]]);
    t.is(guest.domain.shutdownReason, reason);
  });
}

for (const [name, reason] of [
  ['poweroff', ShutdownReason.poweroff],
  ['reboot', ShutdownReason.reboot],
  ['crash', ShutdownReason.crash],
  ['softReset', ShutdownReason.soft_reset],
] as const) {
  for (const [action, power] of [['destroy', 'poweroff'], ['restart', 'reset'], ['preserve', 'hold']] as const) {
    test(`${name} with the action ${action}: the machine is told ${power}, and the caller never returns`, async (t) => {
      const onShutdown = { ...DEFAULT_ON_SHUTDOWN, [name]: action };
      const guest = new Guest({ config: { onShutdown } }).endWith(t);
      void sched(guest, SchedOp.shutdown, [[0, 4, reason]]);
      await sleep(5);
      t.deepEqual(guest.bridge.callsOf('power'), [[power]]);
      t.true(guest.bridge.isWaiting(0));
      t.deepEqual(guest.bridge.callsOf('complete'), []);
    });
  }
}

test('only the first shutdown counts', async (t) => {
  const guest = new Guest().endWith(t);
  void sched(guest, SchedOp.shutdown, [[0, 4, ShutdownReason.poweroff]]);
  void guest.issue(HypercallNumber.sched_op, [SchedOp.shutdown, guest.argument([[0, 4, 3]], 1)], { vcpu: 1 });
  await sleep(5);
  t.deepEqual(guest.bridge.callsOf('power'), [['poweroff']]);
});

test('an unknown reason is -EINVAL', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(await sched(guest, SchedOp.shutdown, [[0, 4, 6]])), '-EINVAL');
  t.is(errnoName(await sched(guest, SchedOp.shutdown, [[0, 4, 0xffff_ffff]])), '-EINVAL');
  t.is(errnoName(await sched(guest, SchedOp.shutdown_code, [[0, 4, 6]])), '-EINVAL');
  t.deepEqual(guest.bridge.callsOf('power'), []);
});

test('shutdown_code says what the next shutdown counts as', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(await sched(guest, SchedOp.shutdown_code, [[0, 4, ShutdownReason.crash]]), 0);
  void sched(guest, SchedOp.shutdown, [[0, 4, ShutdownReason.poweroff]]);
  t.is(guest.domain.shutdownReason, ShutdownReason.crash);
});

test('a suspend is cancelled at once: the caller sees 1 and goes on', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(await sched(guest, SchedOp.shutdown, [[0, 4, ShutdownReason.suspend]]), 1);
  t.is(guest.domain.shutdownReason, undefined);
});

test('a soft reset empties everything but memory, and returns', async (t) => {
  const guest = new Guest().endWith(t);
  const port = ipi(guest);
  guest.at(700 * 4096).setUint32(0, 42, true);
  guest.at(0xfeff8 * 4096).setUint32(0, 42, true);
  let resets = 0;
  guest.domain.on('reset', () => resets++);
  t.is(await sched(guest, SchedOp.shutdown, [[0, 4, ShutdownReason.soft_reset]]), 0);
  t.is(resets, 1);
  t.is(guest.domain.channels.port(port), undefined);
  t.is(guest.at(700 * 4096).getUint32(0, true), 42);
  t.is(guest.at(0xfeff8 * 4096).getUint32(0, true), 0, 'the store ring is new');
  t.is(guest.bridge.routes.size, 2, 'store and console are connected anew');
});

test('a soft reset answers vCPUs that poll, and leaves those that are down where they are', async (t) => {
  const guest = new Guest({ vcpus: 3 }).endWith(t);
  const port = ipi(guest);
  const list = guest.at(LIST);
  list.setUint32(0, port, true);
  const polled = guest.issue(
    HypercallNumber.sched_op,
    [SchedOp.poll, guest.argument([[0, 8, LIST], [8, 4, 1]], 1)],
    { vcpu: 1 },
  );
  const down = guest.issue(HypercallNumber.vcpu_op, [2, 2], { vcpu: 2 });
  t.is(await sched(guest, SchedOp.shutdown, [[0, 4, ShutdownReason.soft_reset]]), 0);
  t.is(await polled, 0);
  t.true(guest.bridge.isWaiting(2));
  t.is(guest.call(HypercallNumber.vcpu_op, [1, 2]), 0, 'VCPUOP_up after the reset');
  t.is(await down, 0);
});

test('a soft reset gives everything back to the kernel, and waits for the backends', async (t) => {
  const guest = new Guest().endWith(t);
  const { domain, bridge } = guest;
  domain.physmap.addSharedInfo(0x10);
  domain.physmap.addGrantFrame(0, 0x20);
  domain.physmap.addGrantFrame(1, 0xf2000);
  domain.vcpus.registerInfo(1, 0x30, 64);
  domain.vcpus.setVector(1, 0xf3);
  domain.callback.set((2n << 56n) | 0xf3n);
  domain.channels.bindVirq(0, 0);
  let letGo = false;
  domain.onLetGo(async () => {
    await sleep(5);
    t.is(bridge.sharedInfo, 0x10, 'backends still find the guest as it was');
    letGo = true;
  });
  t.is(await sched(guest, SchedOp.shutdown, [[0, 4, ShutdownReason.soft_reset]]), 0);
  t.true(letGo);
  t.is(bridge.sharedInfo, undefined);
  t.is(bridge.vcpuInfo.size, 0);
  t.is(bridge.upcallVectors.get(1), 0);
  t.is(bridge.callbackVector, 0);
  t.is(bridge.timers.size, 0);
  t.deepEqual([...bridge.placed.keys()], [0xfeff8, 0xfeff9]);
  t.is(domain.grantTable.nrFrames, 1);
  t.is(domain.physmap.addSharedInfo(0x11), 0, 'the new kernel sets up its own');
  t.is(domain.vcpus.registerInfo(1, 0x31, 64), 0);
});

test('a soft reset asked for by two vCPUs at once is one, and both go on', async (t) => {
  const guest = new Guest().endWith(t);
  let resets = 0;
  guest.domain.on('reset', () => resets++);
  const reason = guest.argument([[0, 4, ShutdownReason.soft_reset]]);
  const ask = (vcpu: number): Promise<number> =>
    guest.issue(HypercallNumber.sched_op, [SchedOp.shutdown, reason], { vcpu });
  t.deepEqual(await Promise.all([ask(0), ask(1)]), [0, 0]);
  t.is(resets, 1);
  t.is(await ask(0), 0, 'and later there can be another');
  t.is(resets, 2);
});

test('a machine reset in the middle of a soft reset: one fresh machine, and nobody is answered twice', async (t) => {
  const guest = new Guest().endWith(t);
  let resets = 0;
  guest.domain.on('reset', () => resets++);
  let release: () => void = () => {};
  guest.domain.onLetGo(() => new Promise<void>((resolve) => (release = resolve)));
  void sched(guest, SchedOp.shutdown, [[0, 4, ShutdownReason.soft_reset]]);
  await sleep(5);
  const reset = guest.bridge.resetMachine();
  release();
  await sleep(5);
  release();
  await reset;
  t.is(resets, 1);
  t.deepEqual(guest.bridge.callsOf('complete'), []);
  t.is([...guest.domain.channels.ports].length, 2);
});

test('a guest that has shut down cannot soft-reset itself back to life', async (t) => {
  const guest = new Guest().endWith(t);
  void sched(guest, SchedOp.shutdown, [[0, 4, ShutdownReason.poweroff]]);
  void guest.issue(HypercallNumber.sched_op, [SchedOp.shutdown, guest.argument([[0, 4, 5]], 1)], { vcpu: 1 });
  await sleep(5);
  t.true(guest.bridge.isWaiting(0) && guest.bridge.isWaiting(1));
  t.is(guest.domain.shutdownReason, ShutdownReason.poweroff);
});

test('remote_shutdown is -ESRCH for nobody and -EPERM for anybody', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(await sched(guest, SchedOp.remote_shutdown, [[0, 2, 9]])), '-ESRCH');
  t.is(errnoName(await sched(guest, SchedOp.remote_shutdown, [[0, 2, 0]])), '-EPERM');
  t.is(errnoName(await sched(guest, SchedOp.remote_shutdown, [[0, 2, 1]])), '-EPERM');
  t.is(errnoName(await sched(guest, SchedOp.pin_override, [])), '-EPERM');
});

const watchdog = (guest: Guest, id: number, timeout: number): Promise<number> =>
  sched(guest, SchedOp.watchdog, [[0, 4, id], [4, 4, timeout]]);

test('E106: watchdog 3 is -EINVAL, a third one -ENOSPC', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(await watchdog(guest, 3, 60)), '-EINVAL');
  t.is(errnoName(await watchdog(guest, 1, 60)), '-EINVAL', 'not in use yet');
  t.is(await watchdog(guest, 0, 60), 1);
  t.is(await watchdog(guest, 0, 60), 2);
  t.is(errnoName(await watchdog(guest, 0, 60)), '-ENOSPC');
  t.is(await watchdog(guest, 1, 60), 0, 'wound again');
  t.is(await watchdog(guest, 1, 0), 0, 'given back');
  t.is(errnoName(await watchdog(guest, 1, 0)), '-EINVAL');
  t.is(await watchdog(guest, 0, 60), 1);
});

test('E106: a watchdog nobody winds shuts the domain down for reason 4', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(await watchdog(guest, 0, 1), 1);
  await sleep(500);
  t.is(await watchdog(guest, 1, 1), 0);
  await sleep(700);
  t.is(guest.domain.shutdownReason, undefined, 'wound in time');
  await sleep(600);
  t.is(guest.domain.shutdownReason, ShutdownReason.watchdog);
  t.deepEqual(guest.bridge.callsOf('power'), [['crash']]);
});
