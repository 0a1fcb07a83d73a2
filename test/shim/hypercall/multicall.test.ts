import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../../../shim/abi/errno.js';
import { EvtchnOp } from '../../../shim/abi/event-channel.js';
import { SchedOp } from '../../../shim/abi/sched.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { errnoName, Guest } from '../../helpers/guest.js';

const LIST = 16 * 4096;

/** Writes entries and issues the call; results are read with `result`. */
function multicall(
  guest: Guest,
  entries: readonly (readonly (number | bigint)[])[],
  count = entries.length,
): Promise<number> {
  const view = guest.at(LIST);
  const size = guest.longMode ? 8 : 4;
  entries.forEach(([op, ...args], i) => {
    const at = i * 8 * size;
    const put = (word: number, value: number | bigint): void => {
      if (size === 8) view.setBigUint64(at + word * 8, BigInt(value), true);
      else view.setUint32(at + word * 4, Number(value), true);
    };
    put(0, op!);
    put(1, 0x55);
    args.forEach((arg, n) => put(2 + n, arg));
  });
  return guest.issue(HypercallNumber.multicall, [LIST, count]);
}

const result = (guest: Guest, i: number): number =>
  guest.longMode
    ? Number(guest.at(LIST).getBigInt64(i * 64 + 8, true))
    : guest.at(LIST).getInt32(i * 32 + 4, true);

for (const longMode of [true, false]) {
  test(`every entry has its own result (${longMode ? 64 : 32}-bit)`, async (t) => {
    const guest = new Guest().endWith(t);
    guest.longMode = longMode;
    const ipi = guest.argument([[0, 4, 1]]);
    const answer = await multicall(guest, [
      [HypercallNumber.xen_version, 7, 0],
      [HypercallNumber.xen_version, 1, 0x7fff_f000],
      [99],
      [HypercallNumber.event_channel_op, EvtchnOp.bind_ipi, ipi],
    ]);
    t.is(answer, 0);
    t.deepEqual([0, 1, 2, 3].map((i) => result(guest, i)), [4096, -Errno.EFAULT, -Errno.ENOSYS, 0]);
    t.is(guest.domain.channels.port(guest.at(ipi).getUint32(4, true))?.vcpu, 1);
  });
}

test('E107: a multicall inside a multicall is -EINVAL, and the outer one goes on', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(await multicall(guest, [[HypercallNumber.multicall, LIST, 1], [HypercallNumber.xen_version, 7, 0]]), 0);
  t.is(errnoName(result(guest, 0)), '-EINVAL');
  t.is(result(guest, 1), 4096);
});

test('a list that is not there is -EFAULT, one that ends early after what is there', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(await guest.issue(HypercallNumber.multicall, [0x7fff_f000, 1])), '-EFAULT');
  t.is(await guest.issue(HypercallNumber.multicall, [0x7fff_f000, 0]), 0);
  const end = 1024 * 4096 - 64;
  guest.at(end).setBigUint64(0, BigInt(HypercallNumber.xen_version), true);
  guest.at(end).setBigUint64(16, 7n, true);
  t.is(errnoName(await guest.issue(HypercallNumber.multicall, [end, 2])), '-EFAULT');
  t.is(guest.at(end).getBigUint64(8, true), 4096n);
});

test('a list of four thousand million entries occupies nobody, and ends with memory', async (t) => {
  const guest = new Guest().endWith(t);
  const answered = guest.issue(HypercallNumber.multicall, [0, 0xffff_ffff]);
  t.is(guest.call(HypercallNumber.xen_version, [7], { vcpu: 1 }), 4096);
  t.is(errnoName(await answered), '-EFAULT');
});

test('a shutdown in the middle of a list leaves the rest undone', async (t) => {
  const guest = new Guest().endWith(t);
  const reason = guest.argument([[0, 4, 0]]);
  void multicall(guest, [
    [HypercallNumber.xen_version, 7, 0],
    [HypercallNumber.sched_op, SchedOp.shutdown, reason],
    [HypercallNumber.xen_version, 7, 0],
  ]);
  await sleep(5);
  t.true(guest.bridge.isWaiting(0));
  t.is(result(guest, 0), 4096);
  t.is(result(guest, 2), 0x55);
});

test('a poll in a list does not wait', async (t) => {
  const guest = new Guest().endWith(t);
  guest.at(LIST + 2048).setUint32(0, guest.domain.channels.bindIpi(0), true);
  const poll = guest.argument([[0, 8, LIST + 2048], [8, 4, 1]]);
  t.is(await multicall(guest, [[HypercallNumber.sched_op, SchedOp.poll, poll]]), 0);
  t.is(result(guest, 0), 0);
});
