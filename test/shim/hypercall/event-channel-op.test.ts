import test from 'ava';
import { native } from '../../../kvm/native.js';
import { EvtchnOp, EvtchnStatusKind } from '../../../shim/abi/event-channel.js';
import { MapSpace, MemoryOp } from '../../../shim/abi/memory.js';
import { HypercallNumber, Virq } from '../../../shim/abi/xen.js';
import { errnoName, Guest, type GuestOptions } from '../../helpers/guest.js';

const SELF = 0x7ff0;
const SHARED = 0x10;

/** EVTCHNOP_* as a guest issues them; `number` and friends are the port or a negative errno. */
class EventGuest extends Guest {
  op(command: number, fields: Parameters<Guest['argument']>[0], out?: number): number {
    const argument = this.argument(fields);
    const result = this.call(HypercallNumber.event_channel_op, [command, argument]);
    return result === 0 && out !== undefined ? this.at(argument).getUint32(out, true) : result;
  }
  allocUnbound(remote: number, dom = SELF): number {
    return this.op(EvtchnOp.alloc_unbound, [[0, 2, dom], [2, 2, remote]], 4);
  }
  bindInterdomain(dom: number, port: number): number {
    return this.op(EvtchnOp.bind_interdomain, [[0, 2, dom], [4, 4, port]], 8);
  }
  bindVirq(virq: number, vcpu: number): number {
    return this.op(EvtchnOp.bind_virq, [[0, 4, virq], [4, 4, vcpu]], 8);
  }
  bindIpi(vcpu: number): number {
    return this.op(EvtchnOp.bind_ipi, [[0, 4, vcpu]], 4);
  }
  close(port: number): number {
    return this.op(EvtchnOp.close, [[0, 4, port]]);
  }
  send(port: number): number {
    return this.op(EvtchnOp.send, [[0, 4, port]]);
  }
  bindVcpu(port: number, vcpu: number): number {
    return this.op(EvtchnOp.bind_vcpu, [[0, 4, port], [4, 4, vcpu]]);
  }
  unmask(port: number): number {
    return this.op(EvtchnOp.unmask, [[0, 4, port]]);
  }
  status(port: number, dom = SELF): { status: number; vcpu: number; dom: number; port: number; virq: number } | number {
    const argument = this.argument([[0, 2, dom], [4, 4, port]]);
    const result = this.call(HypercallNumber.event_channel_op, [EvtchnOp.status, argument]);
    if (result < 0) return result;
    const view = this.at(argument);
    return {
      status: view.getUint32(8, true),
      vcpu: view.getUint32(12, true),
      dom: view.getUint16(16, true),
      port: view.getUint32(20, true),
      virq: view.getUint32(16, true),
    };
  }
  /** Places shared_info in RAM, so that the kernel delivers. */
  share(): this {
    const argument = this.longMode
      ? this.argument([[0, 2, SELF], [4, 4, MapSpace.shared_info], [16, 8, SHARED]])
      : this.argument([[0, 2, SELF], [4, 4, MapSpace.shared_info], [12, 4, SHARED]]);
    if (this.call(HypercallNumber.memory_op, [MemoryOp.add_to_physmap, argument]) !== 0) throw new Error('not placed');
    // The toolstack's own channels are raised once, in case something was sent before.
    for (const { port } of [this.domain.store, this.domain.console]) this.take(port.remotePort);
    this.bridge.upcalls.delete(0);
    return this;
  }
  pending(port: number): boolean {
    return (this.at(SHARED * 4096 + 2048 + (port >>> 3)).getUint8(0) & (1 << (port & 7))) !== 0;
  }
  setMask(port: number, on: boolean): void {
    const view = this.at(SHARED * 4096 + (this.longMode ? 2560 : 2176) + (port >>> 3));
    const bit = 1 << (port & 7);
    view.setUint8(0, on ? view.getUint8(0) | bit : view.getUint8(0) & ~bit);
  }
  /** As a guest's handler does: takes the event. */
  take(port: number, vcpu = 0): void {
    const at = SHARED * 4096 + 2048 + (port >>> 3);
    this.at(at).setUint8(0, this.at(at).getUint8(0) & ~(1 << (port & 7)));
    this.at(SHARED * 4096 + vcpu * 64).setBigUint64(8, 0n, true);
    this.at(SHARED * 4096 + vcpu * 64).setUint8(0, 0);
  }
}

const make = (t: Parameters<Guest['endWith']>[0], options?: GuestOptions): EventGuest =>
  new EventGuest(options).endWith(t);

test('E29: send on port 0, a free one or 4096 is -EINVAL; on an unbound one 0', (t) => {
  const guest = make(t).share();
  for (const port of [0, 500, 4096, 0xffff_ffff]) t.is(errnoName(guest.send(port)), '-EINVAL', `port ${port}`);
  t.is(guest.send(guest.allocUnbound(0)), 0);
});

test('send on a virtual interrupt’s port is -EINVAL', (t) => {
  const guest = make(t).share();
  t.is(errnoName(guest.send(guest.bindVirq(Virq.DEBUG, 0))), '-EINVAL');
});

test('E30: close of port 0, or twice, is -EINVAL; the peer becomes unbound', (t) => {
  const guest = make(t).share();
  t.is(errnoName(guest.close(0)), '-EINVAL');
  const unbound = guest.allocUnbound(SELF);
  const bound = guest.bindInterdomain(SELF, unbound);
  t.is(guest.close(bound), 0);
  t.is(errnoName(guest.close(bound)), '-EINVAL');
  t.like(guest.status(unbound), { status: EvtchnStatusKind.unbound, dom: 1 });
  t.is(guest.bindInterdomain(1, unbound), bound, 'and can be bound to again');
});

test('E31: bind_interdomain to a port unbound for another domain is -EINVAL', (t) => {
  const guest = make(t).share();
  const forDom0 = guest.allocUnbound(0);
  t.is(errnoName(guest.bindInterdomain(SELF, forDom0)), '-EINVAL');
  t.is(errnoName(guest.bindInterdomain(SELF, 0)), '-EINVAL');
  t.is(errnoName(guest.bindInterdomain(SELF, 0xffff_ffff)), '-EINVAL');
  t.is(errnoName(guest.bindInterdomain(SELF, guest.bindIpi(0))), '-EINVAL');
  t.is(errnoName(guest.bindInterdomain(0, forDom0)), '-EINVAL');
  t.is(errnoName(guest.bindInterdomain(5, forDom0)), '-ESRCH');
});

test('E32: bind_virq 24 is -EINVAL, TIMER twice -EEXIST, vCPU 9999 -ENOENT', (t) => {
  const guest = make(t);
  t.is(errnoName(guest.bindVirq(24, 0)), '-EINVAL');
  t.is(errnoName(guest.bindVirq(0xffff_ffff, 0)), '-EINVAL');
  t.true(guest.bindVirq(Virq.TIMER, 0) > 0);
  t.is(errnoName(guest.bindVirq(Virq.TIMER, 0)), '-EEXIST');
  t.true(guest.bindVirq(Virq.TIMER, 1) > 0);
  t.is(errnoName(guest.bindVirq(Virq.TIMER, 9999)), '-ENOENT');
  t.is(errnoName(guest.bindVirq(Virq.CON_RING, 1)), '-EINVAL', 'a global one on vCPU 1');
  t.is(errnoName(guest.bindVirq(Virq.CON_RING, 0)), '-EBUSY', 'dom0 handles it');
  t.true(guest.bindVirq(Virq.ARGO, 0) > 0);
});

test('of Xen’s own virtual interrupts a guest may bind DEBUG on each vCPU, and CONSOLE on none', (t) => {
  const guest = make(t);
  const ports = [0, 1].map((vcpu) => guest.bindVirq(Virq.DEBUG, vcpu));
  t.true(ports[0]! > 0 && ports[1]! > 0 && ports[0] !== ports[1]);
  t.is(errnoName(guest.bindVirq(Virq.DEBUG, 1)), '-EEXIST');
  t.is(errnoName(guest.bindVirq(Virq.CONSOLE, 0)), '-EBUSY');
  t.is(errnoName(guest.bindVirq(Virq.CONSOLE, 1)), '-EINVAL');
  t.is(guest.close(ports[1]!), 0);
  t.true(guest.bindVirq(Virq.DEBUG, 1) > 0, 'free again');
});

test('the timer’s port is the kernel’s while it is bound', (t) => {
  const guest = make(t);
  const port = guest.bindVirq(Virq.TIMER, 1);
  t.deepEqual(guest.bridge.timers.get(1), { port, expires: 0n });
  t.is(guest.close(port), 0);
  t.false(guest.bridge.timers.has(1));
});

test('E33: all ports taken is -ENOSPC, and what exists goes on working', (t) => {
  const guest = make(t, { config: { maxEventChannel: 40 } }).share();
  const ipi = guest.bindIpi(0);
  let last = 0;
  for (let i = 0; i < 60 && last >= 0; i++) last = guest.allocUnbound(0);
  t.is(errnoName(last), '-ENOSPC');
  t.is(errnoName(guest.bindIpi(0)), '-ENOSPC');
  t.is(errnoName(guest.bindVirq(Virq.TIMER, 0)), '-ENOSPC');
  t.is(guest.send(ipi), 0);
  t.true(guest.pending(ipi));
  t.is(guest.close(20), 0);
  t.is(guest.allocUnbound(0), 20, 'the freed port is given out again');
});

test('a 32-bit guest has 1023 ports whatever the configuration', (t) => {
  const guest = make(t, { config: { maxEventChannel: 4000 } });
  guest.longMode = false;
  guest.share();
  let last = 0;
  let highest = 0;
  for (let i = 0; i < 1100 && last >= 0; i++) {
    highest = Math.max(highest, last);
    last = guest.allocUnbound(0);
  }
  t.is(highest, 1023);
  t.is(errnoName(last), '-ENOSPC');
});

test('alloc_unbound for oneself only; any remote domain is accepted', (t) => {
  const guest = make(t);
  t.is(errnoName(guest.allocUnbound(0, 5)), '-ESRCH');
  t.is(errnoName(guest.allocUnbound(0, 0)), '-EPERM');
  t.true(guest.allocUnbound(1234) > 0);
  t.like(guest.status(guest.allocUnbound(1234)), { status: EvtchnStatusKind.unbound, dom: 1234 });
});

test('an event on a loopback channel arrives at the other end, starting with one of its own', (t) => {
  const guest = make(t).share();
  const a = guest.allocUnbound(SELF);
  const b = guest.bindInterdomain(SELF, a);
  t.true(guest.pending(b), 'the port that binds starts pending');
  guest.take(b);
  t.is(guest.send(a), 0);
  t.true(guest.pending(b));
  t.false(guest.pending(a));
  guest.take(b);
  t.true(guest.bridge.kernelSend(b), 'the kernel knows the way by itself');
  t.true(guest.pending(a));
});

test('an IPI is raised on the vCPU it was bound for', (t) => {
  const guest = make(t).share();
  const port = guest.bindIpi(1);
  t.is(errnoName(guest.bindIpi(2)), '-ENOENT');
  t.deepEqual(guest.bridge.routes.get(port), { to: 'port', port, vcpu: 1 });
  t.is(guest.send(port), 0);
  t.true(guest.pending(port));
  t.is(guest.bridge.upcalls.get(1), 1);
  t.is(guest.bridge.upcalls.get(0), undefined);
});

test('an event that is pending when a vCPU gets its vector is told by it, and nothing else is', (t) => {
  const guest = make(t).share();
  const port = guest.bindIpi(1);
  t.is(guest.domain.vcpus.setVector(1, 0xf2), 0);
  t.is(guest.bridge.upcalls.get(1), undefined);
  t.is(guest.send(port), 0);
  t.is(guest.bridge.upcalls.get(1), 1);
  t.is(guest.domain.vcpus.setVector(1, 0xf3), 0);
  t.is(guest.bridge.upcalls.get(1), 2);
  t.true(guest.pending(port));
  t.is(guest.bridge.upcalls.get(0), undefined);
});

test('status tells what a port is; out of range is -EINVAL, another domain refused', (t) => {
  const guest = make(t);
  t.like(guest.status(100), { status: EvtchnStatusKind.closed });
  t.is(errnoName(guest.status(4096) as number), '-EINVAL');
  t.is(errnoName(guest.status(1, 9) as number), '-ESRCH');
  t.is(errnoName(guest.status(1, 0) as number), '-EPERM');
  t.like(guest.status(guest.bindVirq(Virq.TIMER, 1)), { status: EvtchnStatusKind.virq, vcpu: 1, virq: Virq.TIMER });
  t.like(guest.status(guest.bindIpi(1)), { status: EvtchnStatusKind.ipi, vcpu: 1 });
  const store = guest.domain.store.port;
  t.like(guest.status(store.remotePort), { status: EvtchnStatusKind.interdomain, dom: 0, port: store.port });
});

test('bind_vcpu checks the vCPU first, refuses IPIs and timers, and moves what the kernel delivers', (t) => {
  const guest = make(t).share();
  t.is(errnoName(guest.bindVcpu(0, 77)), '-ENOENT');
  t.is(errnoName(guest.bindVcpu(0, 1)), '-EINVAL');
  t.is(errnoName(guest.bindVcpu(guest.bindIpi(0), 1)), '-EINVAL');
  t.is(errnoName(guest.bindVcpu(guest.bindVirq(Virq.TIMER, 0), 1)), '-EINVAL');
  const { port } = { port: guest.domain.store.port.remotePort };
  t.is(guest.bindVcpu(port, 1), 0);
  t.deepEqual(guest.bridge.callsOf('moveIrqfd'), [[guest.domain.store.port.callFd, 1]]);
  t.like(guest.status(port), { vcpu: 1 });
});

test('unmask raises a pending event anew', (t) => {
  const guest = make(t).share();
  const port = guest.bindIpi(0);
  t.is(errnoName(guest.unmask(999)), '-EINVAL');
  guest.setMask(port, true);
  guest.send(port);
  t.is(guest.bridge.upcalls.get(0), undefined);
  t.is(guest.unmask(port), 0);
  t.is(guest.bridge.upcalls.get(0), 1);
  t.true(guest.pending(port));
  guest.take(port);
  t.is(guest.unmask(port), 0);
  t.false(guest.pending(port), 'nothing pending, nothing raised');
});

test('a masked event sets the pending bit only', (t) => {
  const guest = make(t).share();
  const port = guest.bindIpi(0);
  guest.setMask(port, true);
  guest.send(port);
  t.true(guest.pending(port));
  t.is(guest.at(SHARED * 4096).getUint8(0), 0);
  t.is(guest.at(SHARED * 4096).getBigUint64(8, true), 0n);
});

test('an event before shared_info is placed is there afterwards', (t) => {
  const guest = make(t);
  const port = guest.bindIpi(1);
  guest.send(port);
  guest.share();
  t.true(guest.pending(port));
  t.is(guest.at(SHARED * 4096 + 64).getUint8(0), 1);
  t.is(guest.bridge.upcalls.get(1), 1);
});

test('reset closes every port of the guest, and only its own', (t) => {
  const guest = make(t).share();
  const ports = [guest.bindIpi(0), guest.bindVirq(Virq.TIMER, 0), guest.allocUnbound(SELF)];
  guest.bindInterdomain(SELF, ports[2]!);
  t.is(errnoName(guest.op(EvtchnOp.reset, [[0, 2, 3]])), '-ESRCH');
  t.is(guest.op(EvtchnOp.reset, [[0, 2, SELF]]), 0);
  t.deepEqual([...guest.domain.channels.ports], []);
  t.is(guest.bridge.routes.size, 0);
  t.is(guest.bridge.irqfds.size, 0);
  t.is(guest.bridge.timers.size, 0);
});

test('no physical interrupt can be bound: -EINVAL', (t) => {
  const guest = make(t);
  t.is(errnoName(guest.op(EvtchnOp.bind_pirq, [])), '-EINVAL');
});

test('a kernel without event-channel sends leaves them to hypercalls, with the same effect', (t) => {
  const guest = make(t, { capabilities: 0 }).share();
  const port = guest.bindIpi(1);
  t.is(guest.bridge.routes.size, 0);
  t.is(guest.send(port), 0);
  t.true(guest.pending(port));
  const { kickFd, remotePort } = guest.domain.store.port;
  native.eventfdDrain(kickFd);
  t.is(guest.send(remotePort), 0);
  t.is(native.eventfdDrain(kickFd), 1);
});

test('random operations keep the table consistent', (t) => {
  const guest = make(t, { config: { maxEventChannel: 30 } }).share();
  let seed = 12345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  for (let i = 0; i < 5000; i++) {
    const port = random(35);
    const actions = [
      () => guest.allocUnbound([0, SELF, 1, 77][random(4)]!),
      () => guest.bindInterdomain([0, SELF, 1, 77][random(4)]!, port),
      () => guest.bindVirq(random(26), random(3)),
      () => guest.bindIpi(random(3)),
      () => guest.close(port),
      () => guest.send(port),
      () => guest.bindVcpu(port, random(3)),
      () => guest.unmask(port),
      () => guest.status(port),
    ];
    actions[random(actions.length)]!();
  }
  for (const port of guest.domain.channels.ports) {
    if (port.binding.state !== 'loopback') continue;
    const peer = guest.domain.channels.port(port.binding.peer);
    t.deepEqual(peer?.binding, { state: 'loopback', peer: port.number });
  }
  t.deepEqual(guest.lines.filter(({ level }) => level === 'error' || level === 'warn'), []);
});
