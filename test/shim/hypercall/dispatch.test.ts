import test from 'ava';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { Dispatcher } from '../../../shim/hypercall/dispatch.js';
import { hypercall } from '../../../shim/hypercall/row.js';
import { hypercalls, supportMatrix } from '../../../shim/hypercall/table.js';
import { errnoName, Guest } from '../../helpers/guest.js';

test('E38: a hypercall from ring 3 is -EPERM, an unknown number -ENOSYS, a pointer to a hole -EFAULT', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(guest.call(HypercallNumber.xen_version, [0], { cpl: 3 })), '-EPERM');
  t.is(errnoName(guest.call(HypercallNumber.xen_version, [0], { cpl: 1 })), '-EPERM');
  for (const nr of [0, 1, 6, 16, 19, 28, 30, 35, 36, 47, 55, 1000, 0xffff_ffff]) {
    t.is(errnoName(guest.call(nr, [0])), '-ENOSYS', `number ${nr}`);
  }
  t.is(errnoName(guest.call(HypercallNumber.event_channel_op, [7, 0x7000_0000])), '-EFAULT');
  t.is(errnoName(guest.call(HypercallNumber.event_channel_op, [7, 2n ** 63n])), '-EFAULT');
  t.is(errnoName(guest.call(HypercallNumber.event_channel_op, [7, 2n ** 64n - 1n])), '-EFAULT');
});

test('a structure that straddles the end of RAM is -EFAULT, and nothing is done', (t) => {
  const guest = new Guest().endWith(t);
  const end = 1024 * 4096;
  const before = [...guest.domain.channels.ports].length;
  t.is(errnoName(guest.call(HypercallNumber.event_channel_op, [7, end - 4])), '-EFAULT');
  t.is([...guest.domain.channels.ports].length, before);
});

test('bit 31 of the number is a Viridian call, which is not offered', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(guest.call((0x8000_0000 | HypercallNumber.xen_version) >>> 0, [0])), '-ENOSYS');
});

test('an unknown command of a known hypercall is -ENOSYS', (t) => {
  const guest = new Guest().endWith(t);
  for (const nr of [12, 17, 20, 29, 32, 33, 34]) t.is(errnoName(guest.call(nr, [63, 0, 1])), '-ENOSYS', `number ${nr}`);
  t.is(errnoName(guest.call(HypercallNumber.vcpu_op, [63, 0, 0])), '-ENOSYS');
});

test('an exception in a handler is one line in the log and -EIO, and the next call works', (t) => {
  const guest = new Guest().endWith(t);
  const rows = [
    hypercall({
      number: 1,
      name: 'broken',
      handle: () => {
        throw new Error('our bug');
      },
    }),
    ...hypercalls,
  ];
  const dispatcher = new Dispatcher(guest.domain, rows);
  guest.bridge.listen({ hypercall: (exit) => dispatcher.dispatch(exit), reset() {}, ramChanged() {}, closed() {} });
  t.is(errnoName(guest.call(1, [])), '-EIO');
  t.is(guest.lines.filter((line) => line.level === 'error').length, 1);
  t.is(guest.call(HypercallNumber.xen_version, [7]), 4096);
});

test('an exception in a later slice of a long call also ends in -EIO', async (t) => {
  const guest = new Guest().endWith(t);
  const row = hypercall({
    number: 1,
    name: 'broken',
    *handle() {
      const until = performance.now() + 20;
      while (performance.now() < until) yield;
      throw new Error('our bug');
    },
  });
  const dispatcher = new Dispatcher(guest.domain, [row]);
  guest.bridge.listen({ hypercall: (exit) => dispatcher.dispatch(exit), reset() {}, ramChanged() {}, closed() {} });
  t.is(errnoName(await guest.issue(1, [])), '-EIO');
});

test('calls are counted by name, and numbers a guest makes up do not grow the count', (t) => {
  const guest = new Guest().endWith(t);
  guest.call(HypercallNumber.xen_version, [7]);
  guest.call(HypercallNumber.xen_version, [7]);
  for (let nr = 100; nr < 200; nr++) guest.call(nr, []);
  for (let command = 100; command < 200; command++) guest.call(HypercallNumber.xen_version, [command]);
  t.is(guest.dispatcher.counts.get('xen_version.pagesize'), 2);
  t.is(guest.dispatcher.counts.get('unknown'), 100);
  t.is(guest.dispatcher.counts.get('xen_version.unknown'), 100);
  t.is(guest.dispatcher.counts.size, 3);
});

test('with tracing on, a call is a line with its arguments and result', (t) => {
  const guest = new Guest().endWith(t);
  guest.dispatcher.trace = true;
  guest.call(HypercallNumber.xen_version, [7]);
  const line = guest.lines.find(({ level }) => level === 'trace');
  t.is(line?.message, 'xen_version.pagesize');
  t.is(line?.fields['result'], 4096);
});

test('the table is frozen, numbers and commands are unique, and every refusal has a reason', (t) => {
  t.true(Object.isFrozen(hypercalls));
  const numbers = hypercalls.map((row) => row.number);
  t.is(new Set(numbers).size, numbers.length);
  for (const row of hypercalls) {
    t.true(Object.isFrozen(row));
    const commands = row.operations?.map((op) => op.command) ?? [];
    t.is(new Set(commands).size, commands.length, row.name);
    for (const op of row.operations ?? []) t.true(op.handle !== undefined || op.refused !== undefined, op.name);
  }
  const matrix = supportMatrix();
  t.true(matrix.length > 80);
  for (const line of matrix) if (line.refused) t.true(line.refused.reason.length > 10, line.operation);
});
