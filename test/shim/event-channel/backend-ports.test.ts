import test from 'ava';
import { readdirSync } from 'node:fs';
import { native } from '../../../kvm/native.js';
import { Errno } from '../../../shim/abi/errno.js';
import { MapSpace, MemoryOp } from '../../../shim/abi/memory.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { XenError } from '../../../shim/observe/errors.js';
import { eventually, Guest, type GuestOptions } from '../../helpers/guest.js';

const DOM0 = 0;
const SELF = 0x7ff0;

function make(t: Parameters<Guest['endWith']>[0], options?: GuestOptions): Guest {
  const guest = new Guest(options).endWith(t);
  const argument = guest.argument([[0, 2, SELF], [4, 4, MapSpace.shared_info], [16, 8, 0x10]]);
  guest.call(HypercallNumber.memory_op, [MemoryOp.add_to_physmap, argument]);
  return guest;
}

const pending = (guest: Guest, port: number): boolean => guest.domain.areas.bits.pending(port);

test('a backend binds to a port that waits for dom0: kicks one way, calls the other', async (t) => {
  const guest = make(t);
  const { channels, ports } = guest.domain;
  const remote = channels.allocUnbound(SELF, DOM0);
  const port = ports.bindInterdomain(1, remote);
  t.is(port.remotePort, remote);
  t.is(native.eventfdDrain(port.kickFd), 1, 'the binder starts with an event');
  t.true(guest.bridge.kernelSend(remote));
  t.is(native.eventfdDrain(port.kickFd), 1);
  native.eventfdSignal(port.callFd);
  t.true(await eventually(() => pending(guest, remote)));
  port.close();
});

test('without the kernel’s shortcuts both directions go through this process', async (t) => {
  const guest = make(t, { capabilities: 0 });
  const { channels, ports } = guest.domain;
  const remote = channels.allocUnbound(SELF, DOM0);
  const port = ports.bindInterdomain(1, remote);
  native.eventfdDrain(port.kickFd);
  t.false(guest.bridge.kernelSend(remote));
  t.is(channels.send(remote), 0);
  t.is(native.eventfdDrain(port.kickFd), 1);
  native.eventfdSignal(port.callFd);
  t.true(await eventually(() => pending(guest, remote)));
  port.close();
});

test('a kernel that refuses a shortcut costs a warning, not the channel', async (t) => {
  const guest = make(t);
  guest.bridge.refuse.set('routeSend', Errno.EINVAL);
  guest.bridge.refuse.set('bindIrqfd', Errno.EINVAL);
  const remote = guest.domain.channels.allocUnbound(SELF, DOM0);
  const port = guest.domain.ports.bindInterdomain(1, remote);
  native.eventfdDrain(port.kickFd);
  t.is(guest.domain.channels.send(remote), 0);
  t.is(native.eventfdDrain(port.kickFd), 1);
  native.eventfdSignal(port.callFd);
  t.true(await eventually(() => pending(guest, remote)));
  t.is(guest.lines.filter(({ level }) => level === 'warn').length, 2);
  port.close();
});

test('E53: a port that does not wait for dom0 cannot be bound', (t) => {
  const guest = make(t);
  const { channels, ports } = guest.domain;
  const forAnother = channels.allocUnbound(SELF, 7);
  const ipi = channels.bindIpi(0);
  for (const port of [0, 500, 4096, 0xffff_ffff, NaN, -1, forAnother, ipi, guest.domain.store.port.remotePort]) {
    const error = t.throws(() => ports.bindInterdomain(1, port), { instanceOf: XenError }, `port ${port}`);
    t.is(error.errno, Errno.EINVAL);
  }
  t.is(t.throws(() => ports.bindInterdomain(2, ipi), { instanceOf: XenError }).errno, Errno.ESRCH);
  t.is(ports.open, 2, 'only store and console');
});

test('a channel closed by the backend leaves the guest’s port unbound, to be bound again', (t) => {
  const guest = make(t);
  const { channels, ports } = guest.domain;
  const remote = channels.allocUnbound(SELF, DOM0);
  const port = ports.bindInterdomain(1, remote);
  port.close();
  port.close();
  t.deepEqual(channels.port(remote)?.binding, { state: 'unbound', remoteDomid: DOM0 });
  t.false(guest.bridge.routes.has(remote));
  t.is(channels.send(remote), 0, 'into nothing');
  const again = ports.bindInterdomain(1, remote);
  t.is(again.port, port.port);
  again.close();
});

test('a channel closed by the guest stays harmless to the backend', (t) => {
  const guest = make(t);
  const { channels, ports } = guest.domain;
  const remote = channels.allocUnbound(SELF, DOM0);
  const port = ports.bindInterdomain(1, remote);
  t.is(channels.close(remote), 0);
  t.false(guest.bridge.irqfds.has(port.callFd));
  // The guest reuses the number for something else: the backend's late close must not touch that.
  t.is(channels.allocUnbound(SELF, DOM0), remote);
  const next = ports.bindInterdomain(1, remote);
  native.eventfdSignal(port.callFd);
  port.close();
  t.is(channels.port(remote)?.binding.state, 'backend');
  next.close();
});

test.serial('E72: a thousand binds and closes leak no port and no descriptor', async (t) => {
  const guest = make(t);
  const { channels, ports } = guest.domain;
  const remote = channels.allocUnbound(SELF, DOM0);
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 1000; i++) ports.bindInterdomain(1, remote).close();
  t.true(await eventually(() => readdirSync('/proc/self/fd').length <= before + 2));
  t.is(ports.open, 2);
  t.is([...channels.ports].length, 3);
});
