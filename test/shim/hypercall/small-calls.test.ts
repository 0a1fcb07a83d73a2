import test from 'ava';
import { PhysdevOp } from '../../../shim/abi/physdev.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { Errno } from '../../../shim/abi/errno.js';
import { errnoName, Guest } from '../../helpers/guest.js';

const BUFFER = 16 * 4096;

function say(guest: Guest, text: string, count = text.length, at = BUFFER): number {
  [...text].forEach((char, i) => guest.at(BUFFER).setUint8(i, char.charCodeAt(0)));
  return guest.call(HypercallNumber.console_io, [0, count, at]);
}

const said = (guest: Guest): unknown[] =>
  guest.lines.filter(({ message }) => message === 'guest console_io').map(({ fields }) => fields['line']);

test('what a guest writes to Xen’s console is a line in the log', (t) => {
  const guest = new Guest().endWith(t);
  t.is(say(guest, 'early\nhello\n'), 0);
  t.deepEqual(said(guest), ['early', 'hello']);
});

test('control characters do not reach the log', (t) => {
  const guest = new Guest().endWith(t);
  say(guest, 'a\u001b[2Jb\u0000');
  t.deepEqual(said(guest), ['a.[2Jb.']);
});

test('a guest that floods the console is cut off, without an error', (t) => {
  const guest = new Guest({ ram: [{ gfn: 0, pages: 1024 }] }).endWith(t);
  for (let i = 0; i < 200; i++) t.is(guest.call(HypercallNumber.console_io, [0, 0xffff_ffff, 0x10000]), 0);
  const chars = said(guest).join('').length;
  t.true(chars > 0 && chars <= 40_000, `${chars} characters`);
});

test('reading the console is -EPERM, anything else -ENOSYS, a bad buffer -EFAULT', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(guest.call(HypercallNumber.console_io, [1, 1, BUFFER])), '-EPERM');
  t.is(errnoName(guest.call(HypercallNumber.console_io, [2, 1, BUFFER])), '-ENOSYS');
  t.is(errnoName(say(guest, '', 10, 0x7fff_f000)), '-EFAULT');
});

test('vm_assist knows the runstate flag only', (t) => {
  const guest = new Guest().endWith(t);
  const assist = (command: number, type: number): string =>
    errnoName(guest.call(HypercallNumber.vm_assist, [command, type]));
  t.is(assist(0, 5), '0');
  t.is(assist(1, 5), '0');
  t.deepEqual(guest.bridge.callsOf('setRunstateUpdateFlag'), [[true], [false]]);
  for (const type of [0, 1, 2, 3, 4, 6, 32, 63, 64, 0xffff_ffff]) t.is(assist(0, type), '-EINVAL', `type ${type}`);
  t.is(assist(2, 5), '-ENOSYS');
  guest.bridge.refuse.set('setRunstateUpdateFlag', Errno.EINVAL);
  t.is(assist(0, 5), '-EINVAL');
});

test('physical interrupts and PV page tables are -ENOSYS throughout', (t) => {
  const guest = new Guest().endWith(t);
  for (const [name, command] of Object.entries(PhysdevOp)) {
    t.is(errnoName(guest.call(HypercallNumber.physdev_op, [command, BUFFER])), '-ENOSYS', name);
  }
  for (let command = 0; command < 24; command++) {
    t.is(errnoName(guest.call(HypercallNumber.mmuext_op, [BUFFER, 1, 0, 0x7ff0])), '-ENOSYS');
  }
});
