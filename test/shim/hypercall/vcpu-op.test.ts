import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../../../shim/abi/errno.js';
import { MapSpace, MemoryOp } from '../../../shim/abi/memory.js';
import { VcpuOp, VcpuPhysAreaOp } from '../../../shim/abi/vcpu.js';
import { HypercallNumber, Virq } from '../../../shim/abi/xen.js';
import { errnoName, eventually, Guest } from '../../helpers/guest.js';

type Fields = Parameters<Guest['argument']>[0];

const vcpuOp = (guest: Guest, command: number, vcpu: number, fields: Fields = [], from = 0): number =>
  guest.call(HypercallNumber.vcpu_op, [command, vcpu, guest.argument(fields)], { vcpu: from });

const register = (guest: Guest, vcpu: number, gfn: number | bigint, offset: number): number =>
  vcpuOp(guest, VcpuOp.register_vcpu_info, vcpu, [[0, 8, gfn], [8, 4, offset]]);

function share(guest: Guest): void {
  const argument = guest.argument([[0, 2, 0x7ff0], [4, 4, MapSpace.shared_info], [16, 8, 0x10]]);
  guest.call(HypercallNumber.memory_op, [MemoryOp.add_to_physmap, argument]);
}

test('a vCPU that does not exist is -ENOENT for every command, known or not', (t) => {
  const guest = new Guest().endWith(t);
  for (const command of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 99]) {
    t.is(errnoName(vcpuOp(guest, command, 2)), '-ENOENT', `command ${command}`);
    t.is(errnoName(vcpuOp(guest, command, 0xffff_ffff)), '-ENOENT');
  }
});

test('E39: a vcpu_info that crosses a page or is misaligned is -EINVAL, a second one -EBUSY', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(register(guest, 0, 40, 4096 - 32)), '-EINVAL');
  t.is(errnoName(register(guest, 0, 40, 4096 - 60)), '-EINVAL');
  t.is(errnoName(register(guest, 0, 40, 4)), '-EINVAL');
  t.is(errnoName(register(guest, 0, 40, 0xffff_fff8)), '-EINVAL');
  t.is(errnoName(register(guest, 0, 0x8_0000, 0)), '-EINVAL', 'a hole');
  t.is(errnoName(register(guest, 0, 2n ** 64n - 1n, 0)), '-EINVAL');
  t.deepEqual(guest.bridge.callsOf('setVcpuInfo'), []);
  t.is(register(guest, 0, 40, 4096 - 64), 0);
  t.is(errnoName(register(guest, 0, 40, 128)), '-EBUSY');
  t.is(register(guest, 1, 40, 128), 0);
  t.is(guest.bridge.vcpuInfo.get(0), 40 * 4096 + 4096 - 64);
});

test('a vcpu_info takes its contents along, and a pending event is delivered again', (t) => {
  const guest = new Guest().endWith(t);
  share(guest);
  const port = guest.domain.channels.bindIpi(1);
  guest.domain.channels.send(port);
  guest.bridge.upcalls.clear();
  guest.at(0x10 * 4096 + 64).setUint32(32, 0x1234, true);
  t.is(register(guest, 1, 41, 256), 0);
  const info = guest.at(41 * 4096 + 256);
  t.is(info.getUint32(32, true), 0x1234);
  t.is(info.getUint8(0), 1);
  t.is(info.getBigUint64(8, true), 1n);
  t.is(guest.bridge.upcalls.get(1), 1);
});

test('a kernel that refuses the place leaves everything as it was', (t) => {
  const guest = new Guest().endWith(t);
  guest.bridge.refuse.set('setVcpuInfo', Errno.EINVAL);
  t.is(errnoName(register(guest, 0, 40, 0)), '-EINVAL');
  guest.bridge.refuse.clear();
  t.is(register(guest, 0, 40, 64), 0);
});

test('a registered vcpu_info stays when shared_info moves', (t) => {
  const guest = new Guest().endWith(t);
  register(guest, 0, 40, 64);
  share(guest);
  t.is(guest.bridge.vcpuInfo.get(0), 40 * 4096 + 64);
  t.is(guest.bridge.vcpuInfo.get(1), 0x10 * 4096 + 64);
});

test('E109: a vCPU beyond 31 without a vcpu_info gets pending bits only, nothing past vcpu_info[31]', (t) => {
  const guest = new Guest({ vcpus: 40 }).endWith(t);
  share(guest);
  const port = guest.domain.channels.bindIpi(35);
  const before = guest.bridge.memory.windows[0]!.u8.slice(0x10 * 4096, 0x11 * 4096);
  t.is(guest.domain.channels.send(port), 0);
  const after = guest.bridge.memory.windows[0]!.u8.slice(0x10 * 4096, 0x11 * 4096);
  before[2048 + (port >>> 3)]! |= 1 << (port & 7);
  t.deepEqual(after, before);
  t.deepEqual([...guest.bridge.vcpuInfo.keys()].filter((vcpu) => vcpu >= 32), []);
  t.is(register(guest, 35, 41, 0), 0);
  t.is(guest.at(41 * 4096).getUint8(0), 1, 'the event is delivered when there is a place for it');
  t.is(guest.bridge.upcalls.get(35), 1);
});

test('runstate and time areas: by address, checked, and taken back with 0', (t) => {
  const guest = new Guest().endWith(t);
  t.is(vcpuOp(guest, VcpuOp.register_runstate_memory_area, 1, [[0, 8, 0x5010]]), 0);
  t.is(vcpuOp(guest, VcpuOp.register_vcpu_time_memory_area, 1, [[0, 8, 0x6000]]), 0);
  t.deepEqual(guest.bridge.callsOf('setRunstateArea'), [[1, 0x5010]]);
  t.deepEqual(guest.bridge.callsOf('setVcpuTimeInfo'), [[1, 0x6000]]);
  t.is(vcpuOp(guest, VcpuOp.register_runstate_memory_area, 1, [[0, 8, 0]]), 0);
  t.deepEqual(guest.bridge.callsOf('setRunstateArea').at(-1), [1, undefined]);
  for (const command of [VcpuOp.register_runstate_memory_area, VcpuOp.register_vcpu_time_memory_area]) {
    t.is(errnoName(vcpuOp(guest, command, 0, [[0, 8, 0x7fff_f000]])), '-EFAULT');
    t.is(errnoName(vcpuOp(guest, command, 0, [[0, 8, 1024 * 4096 - 8]])), '-EFAULT', 'its end is not RAM');
  }
});

test('areas by guest-physical address may not cross a page', (t) => {
  const guest = new Guest().endWith(t);
  t.is(vcpuOp(guest, VcpuPhysAreaOp.register_runstate_phys_area, 0, [[0, 8, 0x5010]]), 0);
  t.is(vcpuOp(guest, VcpuPhysAreaOp.register_vcpu_time_phys_area, 0, [[0, 8, 0x6000]]), 0);
  t.is(errnoName(vcpuOp(guest, VcpuPhysAreaOp.register_runstate_phys_area, 0, [[0, 8, 0x5ff0]])), '-EINVAL');
  t.is(errnoName(vcpuOp(guest, VcpuPhysAreaOp.register_vcpu_time_phys_area, 0, [[0, 8, 2n ** 60n]])), '-EINVAL');
  t.is(vcpuOp(guest, VcpuPhysAreaOp.register_vcpu_time_phys_area, 0, [[0, 8, 2n ** 64n - 1n]]), 0);
  t.deepEqual(guest.bridge.callsOf('setVcpuTimeInfo').at(-1), [0, undefined]);
});

test('get_runstate_info gives the kernel’s figures, in both layouts', (t) => {
  const guest = new Guest().endWith(t);
  const argument = guest.argument([]);
  t.is(guest.call(HypercallNumber.vcpu_op, [VcpuOp.get_runstate_info, 0, argument]), 0);
  t.is(guest.at(argument).getBigUint64(8, true), 500n);
  t.is(guest.at(argument).getBigUint64(16, true), 400n);
  guest.longMode = false;
  t.is(guest.call(HypercallNumber.vcpu_op, [VcpuOp.get_runstate_info, 0, argument]), 0);
  t.is(guest.at(argument).getBigUint64(4, true), 500n);
  t.is(guest.at(argument).getBigUint64(36, true), 50n);
});

/** Events of VIRQ_TIMER on vCPU 0 seen so far. */
function timer(guest: Guest): () => boolean {
  share(guest);
  const port = guest.domain.channels.bindVirq(Virq.TIMER, 0);
  return () => guest.domain.areas.bits.clearPending(port);
}

const singleshot = (guest: Guest, deadline: bigint, flags = 0, vcpu = 0): number =>
  vcpuOp(guest, VcpuOp.set_singleshot_timer, vcpu, [[0, 8, deadline], [8, 4, flags]]);

test('E40: a singleshot timer in the past fires at once, whatever its flags', (t) => {
  const guest = new Guest().endWith(t);
  const fired = timer(guest);
  t.is(singleshot(guest, guest.bridge.clock - 1n), 0);
  t.true(fired());
  t.is(singleshot(guest, 1n, 1), 0);
  t.true(fired());
  t.is(singleshot(guest, 2n ** 64n - 1n), 0, 'negative: long past');
  t.true(fired());
});

test('a singleshot timer fires once, in time, and can be stopped', async (t) => {
  const guest = new Guest().endWith(t);
  const fired = timer(guest);
  t.is(singleshot(guest, guest.bridge.clock + 10_000_000n), 0);
  t.false(fired());
  t.true(await eventually(fired));
  await sleep(20);
  t.false(fired());
  t.is(singleshot(guest, guest.bridge.clock + 10_000_000n), 0);
  t.is(vcpuOp(guest, VcpuOp.stop_singleshot_timer, 0), 0);
  await sleep(40);
  t.false(fired());
  t.is(errnoName(singleshot(guest, 1n, 0, 1)), '-EINVAL', 'another vCPU’s');
  t.is(errnoName(vcpuOp(guest, VcpuOp.stop_singleshot_timer, 1)), '-EINVAL');
});

test('a deadline further away than timers reach is waited for in parts, not rung early', async (t) => {
  const guest = new Guest().endWith(t);
  const fired = timer(guest);
  t.is(singleshot(guest, guest.bridge.clock + 10n ** 18n), 0);
  await sleep(20);
  t.false(fired());
});

test('the periodic timer: under a millisecond is -EINVAL', async (t) => {
  const guest = new Guest().endWith(t);
  const fired = timer(guest);
  const periodic = (period: bigint): number => vcpuOp(guest, VcpuOp.set_periodic_timer, 0, [[0, 8, period]]);
  t.is(errnoName(periodic(999_999n)), '-EINVAL');
  t.is(errnoName(periodic(0n)), '-EINVAL');
  t.is(errnoName(periodic(2n ** 63n)), '-EINVAL');
  t.is(periodic(5_000_000n), 0);
  t.true(await eventually(fired));
  t.true(await eventually(fired));
  t.is(vcpuOp(guest, VcpuOp.stop_periodic_timer, 0), 0);
  await sleep(50);
  fired();
  await sleep(30);
  t.false(fired());
});

test('set_timer_op: 0 stops, the past fires now, absurd times soon; a 32-bit caller passes two halves', async (t) => {
  const guest = new Guest().endWith(t);
  const fired = timer(guest);
  const set = (deadline: bigint): number => guest.call(HypercallNumber.set_timer_op, [deadline]);
  t.is(set(guest.bridge.clock + 10_000_000n), 0);
  t.is(set(0n), 0);
  await sleep(30);
  t.false(fired());
  t.is(set(5n), 0);
  t.true(fired());
  t.is(set(2n ** 63n + 5n), 0);
  t.false(fired(), 'not at once');
  t.true(await eventually(fired));
  t.is(set(2n ** 60n), 0);
  t.true(await eventually(fired));
  guest.longMode = false;
  const deadline = guest.bridge.clock + 2n ** 33n;
  t.is(guest.call(HypercallNumber.set_timer_op, [deadline & 0xffff_ffffn, deadline >> 32n]), 0);
  t.false(fired(), 'in eight seconds');
  t.is(guest.call(HypercallNumber.set_timer_op, [5, 0]), 0);
  t.true(fired());
});

test('down leaves the vCPU waiting, up wakes it; the last one down powers the machine off', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(vcpuOp(guest, VcpuOp.is_up, 1), 0);
  t.is(errnoName(vcpuOp(guest, VcpuOp.up, 1)), '-EINVAL', 'it has never run');
  t.is(errnoName(vcpuOp(guest, VcpuOp.initialise, 1)), '-EOPNOTSUPP');
  t.is(vcpuOp(guest, VcpuOp.is_up, 1, [], 1), 1);
  const down = guest.issue(HypercallNumber.vcpu_op, [VcpuOp.down, 1], { vcpu: 1 });
  t.true(guest.bridge.isWaiting(1));
  t.is(vcpuOp(guest, VcpuOp.is_up, 1), 0);
  t.is(vcpuOp(guest, VcpuOp.up, 1), 0);
  t.is(await down, 0);
  t.is(vcpuOp(guest, VcpuOp.is_up, 1), 1);
  t.is(errnoName(vcpuOp(guest, VcpuOp.down, 1)), '-EOPNOTSUPP', 'of another');
  void guest.issue(HypercallNumber.vcpu_op, [VcpuOp.down, 1], { vcpu: 1 });
  void guest.issue(HypercallNumber.vcpu_op, [VcpuOp.down, 0]);
  t.deepEqual(guest.bridge.callsOf('power'), [['poweroff']]);
});

test('what hardware does is refused here', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(vcpuOp(guest, VcpuOp.send_nmi, 0)), '-ENOSYS');
  t.is(errnoName(vcpuOp(guest, VcpuOp.get_physid, 0)), '-EINVAL');
});
