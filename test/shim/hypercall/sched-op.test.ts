import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { SchedOp, ShutdownReason } from '../../../shim/abi/sched.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
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
