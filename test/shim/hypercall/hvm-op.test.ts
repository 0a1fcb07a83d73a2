import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { HvmMemType, HvmOp } from '../../../shim/abi/hvm-op.js';
import { HvmParam } from '../../../shim/abi/hvm-params.js';
import { MapSpace, MemoryOp } from '../../../shim/abi/memory.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { errnoName, eventually, Guest } from '../../helpers/guest.js';

const SELF = 0x7ff0;

type Fields = Parameters<Guest['argument']>[0];

const hvm = (guest: Guest, command: number, fields: Fields): number =>
  guest.call(HypercallNumber.hvm_op, [command, guest.argument(fields)]);

const set = (guest: Guest, index: number, value: bigint | number, domid = SELF): number =>
  hvm(guest, HvmOp.set_param, [[0, 2, domid], [4, 4, index], [8, 8, value]]);

function get(guest: Guest, index: number): bigint | string {
  const argument = guest.argument([[0, 2, SELF], [4, 4, index]]);
  const result = guest.call(HypercallNumber.hvm_op, [HvmOp.get_param, argument]);
  return result < 0 ? errnoName(result) : guest.at(argument).getBigUint64(8, true);
}

const vector = (guest: Guest, vcpu: number, value: number): number =>
  hvm(guest, HvmOp.set_evtchn_upcall_vector, [[0, 4, vcpu], [4, 1, value]]);

function share(guest: Guest, gfn = 0x10): void {
  const argument = guest.longMode
    ? guest.argument([[0, 2, SELF], [4, 4, MapSpace.shared_info], [16, 8, gfn]])
    : guest.argument([[0, 2, SELF], [4, 4, MapSpace.shared_info], [12, 4, gfn]]);
  guest.call(HypercallNumber.memory_op, [MemoryOp.add_to_physmap, argument]);
}

test('E37: setting parameter 1 or 17 is -EPERM, 40 -EINVAL, 35 -EEXIST; getting 5 is -EPERM', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(set(guest, 1, 5)), '-EPERM');
  t.is(errnoName(set(guest, 17, 5)), '-EPERM');
  t.is(errnoName(set(guest, 40, 5)), '-EINVAL');
  t.is(errnoName(set(guest, 39, 5)), '-EINVAL');
  t.is(errnoName(set(guest, 0xffff_ffff, 5)), '-EINVAL');
  t.is(errnoName(set(guest, 35, 1)), '-EEXIST');
  t.is(get(guest, 5), '-EPERM');
  t.is(get(guest, 39), '-EINVAL');
});

test('every parameter has the permissions Xen gives it', (t) => {
  const guest = new Guest().endWith(t);
  const deprecated = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];
  const writable = [0, 2, 15, 18, 19, 34, 36, 37];
  for (let index = 0; index < 39; index++) {
    const expected = deprecated.includes(index)
      ? '-EINVAL'
      : index === 35
        ? '-EEXIST'
        : writable.includes(index)
          ? '0'
          : '-EPERM';
    t.is(errnoName(set(guest, index, 1)), expected, `set ${index}`);
    const readable = [...writable, 1, 17, 35].includes(index);
    const value = get(guest, index);
    if (readable) t.is(typeof value, 'bigint', `get ${index}`);
    else t.is(value, deprecated.includes(index) ? '-EINVAL' : '-EPERM', `get ${index}`);
  }
});

test('the toolstack’s parameters lead to the store and the console', (t) => {
  const guest = new Guest().endWith(t);
  t.is(get(guest, HvmParam.STORE_PFN), 0xfeff8n);
  t.is(get(guest, HvmParam.CONSOLE_PFN), 0xfeff9n);
  t.is(get(guest, HvmParam.STORE_EVTCHN), BigInt(guest.domain.store.port.remotePort));
  t.is(get(guest, HvmParam.CONSOLE_EVTCHN), BigInt(guest.domain.console.port.remotePort));
});

test('a parameter keeps its 64 bits; other domains are refused', (t) => {
  const guest = new Guest().endWith(t);
  t.is(set(guest, HvmParam.VM86_TSS_SIZED, 0xfedc_ba98_7654_3210n), 0);
  t.is(get(guest, HvmParam.VM86_TSS_SIZED), 0xfedc_ba98_7654_3210n);
  t.is(errnoName(set(guest, 0, 0, 0)), '-EPERM');
  t.is(errnoName(set(guest, 0, 0, 9)), '-ESRCH');
});

test('E36: an upcall vector of 15 is -EINVAL; CALLBACK_IRQ=1 after a vector never asserts GSI 1', async (t) => {
  const guest = new Guest().endWith(t);
  share(guest);
  t.is(errnoName(vector(guest, 0, 15)), '-EINVAL');
  t.is(errnoName(vector(guest, 0, 0)), '-EINVAL');
  t.is(errnoName(vector(guest, 9, 0xf3)), '-ENOENT');
  t.is(vector(guest, 0, 0xf3), 0);
  t.deepEqual(guest.bridge.callsOf('setUpcallVector'), [[0, 0xf3]]);
  t.is(set(guest, HvmParam.CALLBACK_IRQ, 1), 0);
  t.is(guest.bridge.callbackVector, 0);
  guest.domain.channels.send(guest.domain.channels.bindIpi(0));
  await sleep(10);
  t.deepEqual(guest.bridge.callsOf('setGsi'), []);
});

test('a callback vector goes to the kernel', (t) => {
  const guest = new Guest().endWith(t);
  t.is(set(guest, HvmParam.CALLBACK_IRQ, (2n << 56n) | 0xf3n), 0);
  t.is(guest.bridge.callbackVector, 0xf3);
  t.is(set(guest, HvmParam.CALLBACK_IRQ, 0), 0);
  t.is(guest.bridge.callbackVector, 0);
});

test('a callback line follows vCPU 0’s upcall flag, whoever sets or clears it', async (t) => {
  const guest = new Guest().endWith(t);
  share(guest);
  guest.at(0x10 * 4096).setUint8(0, 0);
  guest.at(0x10 * 4096).setBigUint64(8, 0n, true);
  t.is(set(guest, HvmParam.CALLBACK_IRQ, 9), 0);
  guest.domain.channels.send(guest.domain.channels.bindIpi(0));
  t.true(await eventually(() => guest.bridge.gsi.get(9) === true));
  guest.at(0x10 * 4096).setUint8(0, 0);
  t.true(await eventually(() => guest.bridge.gsi.get(9) === false));
  guest.at(0x10 * 4096).setUint8(0, 1);
  t.true(await eventually(() => guest.bridge.gsi.get(9) === true));
  t.is(set(guest, HvmParam.CALLBACK_IRQ, 0), 0);
  t.deepEqual(guest.bridge.callsOf('setGsi').at(-1), [9, false]);
});

test('a line that does not exist, and a PCI pin, drive nothing', async (t) => {
  const guest = new Guest().endWith(t);
  share(guest);
  t.is(set(guest, HvmParam.CALLBACK_IRQ, 0xffff_ffffn), 0);
  t.is(set(guest, HvmParam.CALLBACK_IRQ, (1n << 56n) | 0x1800n), 0);
  t.is(set(guest, HvmParam.CALLBACK_IRQ, (77n << 56n) | 3n), 0);
  guest.domain.channels.send(guest.domain.channels.bindIpi(0));
  await sleep(10);
  t.deepEqual(guest.bridge.callsOf('setGsi'), []);
  t.is(guest.lines.filter(({ level }) => level === 'warn').length, 1);
});

test('E108: a 32-bit kernel after a 64-bit loader has shared_info in the 32-bit layout', (t) => {
  const guest = new Guest().endWith(t);
  share(guest);
  t.true(guest.bridge.longMode);
  guest.longMode = false;
  guest.bridge.calls.length = 0;
  t.is(set(guest, HvmParam.CALLBACK_IRQ, (2n << 56n) | 0xf3n), 0);
  const order = guest.bridge.calls.map(({ method, args }) => `${method} ${args.join(' ')}`);
  t.deepEqual(order.slice(0, 2), ['setLongMode false', 'setSharedInfo 16'], 'so the wall clock moves too');
  const port = guest.domain.channels.bindIpi(1);
  // Word 1 of the 32-bit array would be half of word 0 of the 64-bit one, and its selector bit another.
  let high = port;
  while (high < 40) high = guest.domain.channels.bindIpi(1);
  guest.domain.channels.send(high);
  t.is(guest.at(0x10 * 4096 + 64).getUint32(4, true) >>> 1, 1, 'pending_sel of 32 bits, word 1');
  t.is(guest.at(0x10 * 4096 + 64).getBigUint64(8, true), 0n, 'where the 64-bit selector was, nothing');
  guest.at(0x10 * 4096 + 2176 + (port >>> 3)).setUint8(0, 1 << (port & 7));
  guest.bridge.upcalls.clear();
  guest.domain.channels.send(port);
  t.is(guest.bridge.upcalls.get(1), undefined, 'masked by the 32-bit mask');
  guest.longMode = true;
  t.is(set(guest, HvmParam.CALLBACK_IRQ, (2n << 56n) | 0xf3n), 0);
  t.true(guest.bridge.longMode, 'and back');
});

test('flush_tlbs takes no argument and leaves nothing behind', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(guest.call(HypercallNumber.hvm_op, [HvmOp.flush_tlbs, 0x8000])), '-EINVAL');
  t.is(guest.call(HypercallNumber.hvm_op, [HvmOp.flush_tlbs, 0]), 0);
  t.deepEqual(guest.bridge.calls.slice(-2).map(({ method }) => method), ['placeOwnPage', 'removeOwnPage']);
  t.is(guest.bridge.placed.size, 2);
});

test('get_time is system time', (t) => {
  const guest = new Guest().endWith(t);
  const argument = guest.argument([]);
  t.is(guest.call(HypercallNumber.hvm_op, [HvmOp.get_time, argument]), 0);
  t.is(guest.at(argument).getBigUint64(0, true), guest.bridge.clock);
});

test('get_mem_type knows RAM, pages of ours and holes', (t) => {
  const guest = new Guest().endWith(t);
  const type = (gfn: number | bigint, domid = SELF): number | string => {
    const argument = guest.argument([[0, 2, domid], [8, 8, gfn]]);
    const result = guest.call(HypercallNumber.hvm_op, [HvmOp.get_mem_type, argument]);
    return result < 0 ? errnoName(result) : guest.at(argument).getUint16(2, true);
  };
  t.is(type(5), HvmMemType.ram_rw);
  t.is(type(0xfeff8), HvmMemType.ram_rw);
  t.is(type(0xfee00), HvmMemType.mmio_dm);
  t.is(type(2n ** 64n - 1n), HvmMemType.mmio_dm);
  t.is(type(5, 9), '-ESRCH');
});

test('what needs shadow paging, monitors or another view of memory is refused', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(hvm(guest, HvmOp.pagetable_dying, [])), '-EINVAL');
  t.is(errnoName(hvm(guest, HvmOp.altp2m, [])), '-EOPNOTSUPP');
  t.is(errnoName(hvm(guest, HvmOp.xentrace, [])), '-ENOSYS');
  t.is(guest.call(HypercallNumber.hvm_op, [HvmOp.guest_request_vm_event, 0]), 0);
  t.is(errnoName(guest.call(HypercallNumber.hvm_op, [HvmOp.guest_request_vm_event, 0x8000])), '-EINVAL');
});
