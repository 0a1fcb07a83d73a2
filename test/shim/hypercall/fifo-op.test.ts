import test, { type ExecutionContext } from 'ava';
import { native } from '../../../kvm/native.js';
import { EvtchnOp } from '../../../shim/abi/event-channel.js';
import { SchedOp } from '../../../shim/abi/sched.js';
import { HypercallNumber, Virq } from '../../../shim/abi/xen.js';
import { FifoGuest, LINKED, MASKED, PENDING } from '../../helpers/fifo-guest.js';
import { errnoName, eventually, Guest, type GuestOptions } from '../../helpers/guest.js';

const SELF = 0x7ff0;
const SHARED_INFO = 0x10;
/** Frames of the control blocks and of the first page of event words. */
const CONTROL = 40;
const WORDS = 50;

const op = (guest: Guest, command: number, fields: Parameters<Guest['argument']>[0]): number =>
  guest.call(HypercallNumber.event_channel_op, [command, guest.argument(fields)]);
const initControl = (guest: Guest, vcpu: number, gfn = CONTROL, offset = vcpu * 128): number =>
  op(guest, EvtchnOp.init_control, [[0, 8, gfn], [8, 4, offset], [12, 4, vcpu]]);
const expandArray = (guest: Guest, gfn: number): number => op(guest, EvtchnOp.expand_array, [[0, 8, gfn]]);

function fifoGuest(t: ExecutionContext, options: GuestOptions = {}): Guest {
  const guest = new Guest({ ...options, config: { eventChannels: 'fifo', ...options.config } }).endWith(t);
  guest.domain.latch(true);
  return guest;
}

/** A guest with FIFO event channels in use on two vCPUs; what the kernel of the guest sees of them. */
function inUse(t: ExecutionContext, options: GuestOptions = {}): { guest: Guest; kernel: FifoGuest } {
  const guest = fifoGuest(t, options);
  guest.domain.physmap.addSharedInfo(SHARED_INFO);
  for (const vcpu of [0, 1]) t.is(initControl(guest, vcpu), 0);
  t.is(expandArray(guest, WORDS), 0);
  const kernel = kernelOf(guest);
  settle(guest, kernel);
  return { guest, kernel };
}

/** The guest has heard of everything so far. */
function settle(guest: Guest, kernel: FifoGuest): void {
  for (const vcpu of [0, 1]) {
    guest.domain.areas.upcall(vcpu)!.clear();
    kernel.upcall(vcpu);
  }
  kernel.handled.length = 0;
  guest.bridge.upcalls.clear();
}

function kernelOf(guest: Guest): FifoGuest {
  return new FifoGuest(
    (port) => {
      const { i32, at } = guest.bridge.locate(WORDS + (port >>> 10))!;
      return { i32, at: (at >>> 2) + (port & 1023) };
    },
    (vcpu) => {
      const page = guest.bridge.locate(CONTROL)!;
      return { ...page, at: page.at + vcpu * 128 };
    },
  );
}

const upcalls = (guest: Guest, vcpu: number): number => guest.bridge.upcalls.get(vcpu) ?? 0;

test('a guest that is not offered FIFO gets -ENOSYS and keeps 2-level event channels', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(initControl(guest, 0)), '-ENOSYS');
  t.is(errnoName(expandArray(guest, WORDS)), '-ENOSYS');
  const port = guest.domain.channels.bindIpi(0);
  t.is(errnoName(op(guest, EvtchnOp.set_priority, [[0, 4, port], [4, 4, 1]])), '-ENOSYS');
  t.true(guest.bridge.routes.has(port));
});

test('a guest that is offered FIFO and never asks for it keeps 2-level event channels, which the kernel carries out', (t) => {
  const guest = fifoGuest(t);
  const port = guest.domain.channels.bindIpi(0);
  guest.domain.channels.bindVirq(Virq.TIMER, 0);
  t.true(guest.bridge.routes.has(port));
  t.is(guest.bridge.timers.size, 1);
  t.true(guest.bridge.kernelPoll);
  t.is(errnoName(op(guest, EvtchnOp.set_priority, [[0, 4, port], [4, 4, 1]])), '-ENOSYS');
  t.is(errnoName(op(guest, EvtchnOp.set_priority, [[0, 4, 900], [4, 4, 1]])), '-EINVAL');
});

test('E34: control blocks that cross a page, are not aligned, are not there or are given twice', (t) => {
  const guest = fifoGuest(t);
  t.is(errnoName(initControl(guest, 0, CONTROL, 4092)), '-EINVAL');
  t.is(errnoName(initControl(guest, 0, CONTROL, 4096 - 64)), '-EINVAL');
  t.is(errnoName(initControl(guest, 0, CONTROL, 0xffff_fff8)), '-EINVAL');
  t.is(errnoName(initControl(guest, 0, CONTROL, 4)), '-EINVAL');
  t.is(errnoName(initControl(guest, 9)), '-ENOENT');
  t.is(errnoName(initControl(guest, 0, 0x9_0000)), '-EINVAL');
  t.is(errnoName(initControl(guest, 0, 2 ** 40)), '-EINVAL');
  t.true(guest.bridge.kernelPoll, 'none of them changed the ABI');
  t.is(initControl(guest, 0, CONTROL, 4096 - 72), 0);
  t.is(guest.at(8 * 4096 + 16).getUint8(0), 17, 'link_bits');
  t.is(errnoName(initControl(guest, 0)), '-EINVAL');
  t.is(initControl(guest, 1), 0);
});

test('E35: event words before a control block are -EOPNOTSUPP, a 129th page of them -ENOSPC', (t) => {
  const guest = fifoGuest(t);
  t.is(errnoName(expandArray(guest, WORDS)), '-EOPNOTSUPP');
  t.is(initControl(guest, 0), 0);
  t.is(errnoName(expandArray(guest, 0x9_0000)), '-EINVAL');
  for (let page = 0; page < 128; page++) t.is(expandArray(guest, 100 + page), 0);
  t.is(errnoName(expandArray(guest, 300)), '-ENOSPC');
});

test('set_priority: 16 is -EINVAL, 0 to 15 order the events', (t) => {
  const { guest, kernel } = inUse(t);
  const ports = [0, 1, 2].map(() => guest.domain.channels.bindIpi(0));
  t.is(errnoName(op(guest, EvtchnOp.set_priority, [[0, 4, ports[0]!], [4, 4, 16]])), '-EINVAL');
  t.is(op(guest, EvtchnOp.set_priority, [[0, 4, ports[2]!], [4, 4, 0]]), 0);
  t.is(op(guest, EvtchnOp.set_priority, [[0, 4, ports[0]!], [4, 4, 15]]), 0);
  for (const port of ports) op(guest, EvtchnOp.send, [[0, 4, port]]);
  kernel.upcall(0);
  t.deepEqual(kernel.handled, [ports[2]!, ports[1]!, ports[0]!]);
});

test('with FIFO, what backends write to their eventfds arrives in the event words, and rings the vCPU', async (t) => {
  const { guest, kernel } = inUse(t);
  const { channels, ports } = guest.domain;
  const port = channels.allocUnbound(SELF, 0);
  const backend = ports.bindInterdomain(1, port);
  native.eventfdDrain(backend.kickFd);
  native.eventfdSignal(backend.callFd);
  t.true(await eventually(() => kernel.word(port) === (PENDING | LINKED | 0)));
  t.is(upcalls(guest, 0), 1);
  kernel.upcall(0);
  t.deepEqual(kernel.handled, [port]);
  native.eventfdSignal(backend.callFd);
  t.true(await eventually(() => upcalls(guest, 0) === 2), 'the bell can be rung again');
  t.true(guest.bridge.kernelSend(port), 'the guest’s own sends still go from the kernel to the backend');
  t.is(native.eventfdDrain(backend.kickFd), 1);
});

test('the change to FIFO takes over channels, timers and events there are', async (t) => {
  const guest = fifoGuest(t);
  const { domain, bridge } = guest;
  const { channels, ports } = domain;
  domain.physmap.addSharedInfo(SHARED_INFO);
  const backendPort = channels.allocUnbound(SELF, 0);
  const backend = ports.bindInterdomain(1, backendPort);
  const ipi = channels.bindIpi(1);
  const timer = channels.bindVirq(Virq.TIMER, 0);
  domain.areas.bits.setPending(ipi);
  t.is(initControl(guest, 0), 0);
  t.is(initControl(guest, 1), 0);
  t.false(bridge.kernelPoll);
  t.false(bridge.routes.has(ipi), 'the kernel would set a 2-level bit');
  t.is(bridge.timers.size, 0);
  t.false(bridge.irqfds.has(backend.callFd));
  native.eventfdSignal(backend.callFd);
  t.is(expandArray(guest, WORDS), 0);
  const kernel = kernelOf(guest);
  kernel.upcall(1);
  t.deepEqual(kernel.handled, [ipi]);
  t.true(await eventually(() => kernel.upcall(0) && kernel.handled.includes(backendPort)));
  t.true(kernel.handled.includes(timer), 'in case it was armed');
});

test('unmask of a pending event puts it into its queue; bind_vcpu moves later ones', (t) => {
  const { guest, kernel } = inUse(t);
  const { channels } = guest.domain;
  const first = channels.allocUnbound(SELF, SELF);
  const second = channels.bindInterdomain(SELF, first);
  settle(guest, kernel);
  kernel.mask(first);
  op(guest, EvtchnOp.send, [[0, 4, second]]);
  t.is(kernel.word(first), PENDING | MASKED);
  const rung = upcalls(guest, 0);
  t.is(op(guest, EvtchnOp.unmask, [[0, 4, first]]), 0);
  t.is(upcalls(guest, 0), rung + 1);
  kernel.upcall(0);
  t.deepEqual(kernel.handled, [first]);
  t.is(op(guest, EvtchnOp.bind_vcpu, [[0, 4, first], [4, 4, 1]]), 0);
  op(guest, EvtchnOp.send, [[0, 4, second]]);
  t.is(upcalls(guest, 1), 1);
  kernel.upcall(1);
  t.deepEqual(kernel.handled, [first, first]);
});

test('a closed port that the guest still has in a queue is not given out again', (t) => {
  const { guest, kernel } = inUse(t);
  const { channels } = guest.domain;
  const port = channels.bindIpi(0);
  channels.send(port);
  channels.close(port);
  const next = channels.bindIpi(0);
  t.not(next, port);
  kernel.upcall(0);
  t.deepEqual(kernel.handled, [], 'its event is gone');
  t.is(channels.bindIpi(0), port, 'now it is');
});

test('E33: 131,071 ports, then -ENOSPC, and all of them work', (t) => {
  const { guest, kernel } = inUse(t, { ram: [{ gfn: 0, pages: 1024 }] });
  const { channels } = guest.domain;
  let port = 0;
  for (;;) {
    const next = channels.bindIpi(1);
    if (next < 0) {
      t.is(errnoName(next), '-ENOSPC');
      break;
    }
    port = next;
  }
  t.is(port, 131_071);
  t.is(channels.send(port), 0, 'its word is not there yet');
  for (let page = 1; page < 128; page++) t.is(expandArray(guest, WORDS + page), 0);
  kernel.upcall(1);
  t.deepEqual(kernel.handled, [port]);
  t.deepEqual(guest.lines.filter(({ level }) => level === 'warn'), [], 'the kernel is not asked for what it refuses');
});

test('a poll with FIFO ends with an event of its port, masked or not', async (t) => {
  const { guest, kernel } = inUse(t);
  const port = guest.domain.channels.bindIpi(0);
  kernel.mask(port);
  guest.at(20 * 4096).setUint32(0, port, true);
  const polled = guest.issue(HypercallNumber.sched_op, [
    SchedOp.poll, guest.argument([[0, 8, 20 * 4096], [8, 4, 1]], 1),
  ]);
  t.true(guest.bridge.isWaiting(0));
  guest.domain.channels.send(port);
  t.is(await polled, 0);
});

test('the singleshot timer raises its port with FIFO, too', async (t) => {
  const { guest, kernel } = inUse(t);
  const port = guest.domain.channels.bindVirq(Virq.TIMER, 0);
  t.is(guest.bridge.timers.size, 0);
  guest.domain.timers.setSingleshot(0, guest.bridge.clock + 2_000_000n);
  t.true(await eventually(() => kernel.upcall(0) && kernel.handled.includes(port)));
});

test('a vCPU whose vcpu_info moves is told again of what waits in its queues', (t) => {
  const { guest, kernel } = inUse(t);
  const port = guest.domain.channels.bindIpi(1);
  guest.domain.channels.send(port);
  const rung = upcalls(guest, 1);
  t.is(guest.domain.vcpus.registerInfo(1, 60, 64), 0);
  t.is(upcalls(guest, 1), rung + 1);
  t.is(guest.at(60 * 4096 + 64).getUint8(0), 1, 'evtchn_upcall_pending in its new place');
  kernel.upcall(1);
  t.deepEqual(kernel.handled, [port]);
});

test('events before shared_info is placed are in the queues when it is', (t) => {
  const guest = fifoGuest(t);
  t.is(initControl(guest, 0), 0);
  t.is(expandArray(guest, WORDS), 0);
  guest.domain.channels.send(guest.domain.channels.bindIpi(0));
  t.is(upcalls(guest, 0), 0);
  t.true(guest.domain.areas.upcall(0)!.pending, 'the flag alone');
  guest.domain.physmap.addSharedInfo(SHARED_INFO);
  t.is(upcalls(guest, 0), 1);
});

for (const how of ['EVTCHNOP_reset', 'a machine reset', 'a soft reset'] as const) {
  test(`after ${how} event channels are 2-level, and the guest may ask for FIFO again`, async (t) => {
    const { guest } = inUse(t);
    const { channels, areas, physmap } = guest.domain;
    channels.send(channels.bindIpi(0));
    if (how === 'EVTCHNOP_reset') t.is(op(guest, EvtchnOp.reset, [[0, 2, SELF]]), 0);
    else if (how === 'a machine reset') await guest.bridge.resetMachine();
    else t.true(await guest.domain.softReset());
    t.true(guest.bridge.kernelPoll);
    guest.domain.latch(true);
    physmap.addSharedInfo(SHARED_INFO);
    const port = channels.bindIpi(0);
    t.true(guest.bridge.routes.has(port));
    channels.send(port);
    t.true(areas.bits.pending(port));
    t.is(channels.bindIpi(0) > 0, true);
    t.is(initControl(guest, 0), 0);
  });
}
