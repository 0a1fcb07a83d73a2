import test from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../../kvm/native.js';
import { HvmParam } from '../../../shim/abi/hvm-params.js';
import { MapSpace, MemoryOp } from '../../../shim/abi/memory.js';
import { SchedOp, ShutdownReason } from '../../../shim/abi/sched.js';
import { HypercallNumber, Virq } from '../../../shim/abi/xen.js';
import { Domain } from '../../../shim/domain/domain.js';
import { attachGuest } from '../../../shim/memory/attach.js';
import { silentLog } from '../../../shim/observe/log.js';
import { FakeBridge } from '../../helpers/fake-bridge.js';
import { Guest } from '../../helpers/guest.js';

const SELF = 0x7ff0;

function share(guest: Guest, gfn = 0x10): void {
  const argument = guest.argument([[0, 2, SELF], [4, 4, MapSpace.shared_info], [16, 8, gfn]]);
  guest.call(HypercallNumber.memory_op, [MemoryOp.add_to_physmap, argument]);
}

test('a new domain has its store and console: pages, ports, parameters, grant entries', (t) => {
  const guest = new Guest().endWith(t);
  const { domain, bridge } = guest;
  t.deepEqual([...bridge.placed.keys()], [0xfeff8, 0xfeff9]);
  t.is(domain.store.gfn, 0xfeff8);
  domain.store.u8[domain.store.offset + 2064] = 7;
  t.is(guest.at(0xfeff8 * 4096 + 2064).getUint8(0), 7);
  t.not(domain.store.port.remotePort, domain.console.port.remotePort);
  const entries = domain.grantTable;
  entries.enter();
  t.true(entries.map(0, false) >= 0, 'the console ring is granted to dom0');
  t.true(entries.map(1, false) >= 0, 'the store ring is granted to dom0');
  entries.leave();
  t.is(domain.channels.port(domain.store.port.remotePort)?.binding.state, 'backend');
});

test('a bridge with too few pages is our own mistake', (t) => {
  const bridge = new FakeBridge({ ownPages: 64 });
  t.throws(() => new Domain({ bridge, config: { name: 'small' }, log: silentLog }), { instanceOf: RangeError });
});

test('another thread attaches with the handles and sees the same guest', (t) => {
  const guest = new Guest().endWith(t);
  const attached = attachGuest(structuredClone(guest.domain.handles()));
  guest.at(50 * 4096).setUint32(0, 0xfeed, true);
  const bytes = new Uint8Array(4);
  t.true(attached.memory.read(50 * 4096, bytes));
  t.is(new DataView(bytes.buffer).getUint32(0, true), 0xfeed);
  attached.detach();
});

test('a machine reset: everything as on the first boot, and backends let go first', async (t) => {
  const guest = new Guest().endWith(t);
  const { domain, bridge } = guest;
  share(guest);
  const ipi = domain.channels.bindIpi(0);
  domain.channels.bindVirq(Virq.TIMER, 0);
  domain.vcpus.setVector(0, 0xf3);
  domain.physmap.addGrantFrame(5, 0xf2000);
  domain.physmap.decrease(900);
  domain.params.set(HvmParam.CALLBACK_IRQ, 5);
  domain.store.u8[domain.store.offset] = 99;
  const oldPort = domain.store.port;
  const backend = domain.ports.bindInterdomain(1, domain.channels.allocUnbound(SELF, 0));
  const order: string[] = [];
  domain.onLetGo(async () => {
    await sleep(5);
    backend.close();
    order.push('let go');
  });
  domain.on('reset', () => order.push('reset'));
  bridge.calls.length = 0;
  await bridge.resetMachine();
  t.deepEqual(order, ['let go', 'reset']);
  t.is(domain.channels.port(ipi + 10), undefined);
  t.is([...domain.channels.ports].length, 2);
  t.deepEqual([...bridge.placed.keys()], [0xfeff8, 0xfeff9]);
  t.is(domain.grantTable.nrFrames, 1);
  t.is(domain.p2m.currentPages, 1024);
  t.is(domain.params.get(HvmParam.CALLBACK_IRQ), 0n);
  t.is(domain.store.u8[domain.store.offset], 0);
  t.not(domain.store.port, oldPort);
  t.false(domain.vcpus.hasVector(0));
  t.deepEqual(bridge.callsOf('unbindIrqfd').concat(bridge.callsOf('removeOwnPage')), [], 'nothing is taken back twice');
  share(guest, 0x20);
  t.deepEqual(bridge.callsOf('setSharedInfo'), [[0x20]]);
  t.is(domain.channels.bindIpi(0), 3);
});

test('a guest reboots: shutdown, reset, and it may shut down again', async (t) => {
  const guest = new Guest().endWith(t);
  void guest.issue(HypercallNumber.sched_op, [SchedOp.shutdown, guest.argument([[0, 4, ShutdownReason.reboot]])]);
  await sleep(5);
  t.deepEqual(guest.bridge.callsOf('power'), [['reset']]);
  await guest.bridge.resetMachine();
  await sleep(20);
  t.is(guest.domain.shutdownReason, undefined);
  void guest.issue(HypercallNumber.sched_op, [SchedOp.shutdown, guest.argument([[0, 4, ShutdownReason.poweroff]])]);
  await sleep(5);
  t.deepEqual(guest.bridge.callsOf('power').at(-1), ['poweroff']);
});

test('nobody waits across a reset: polls, timers and watchdogs of the old guest are gone', async (t) => {
  const guest = new Guest().endWith(t);
  const port = guest.domain.channels.bindIpi(0);
  guest.domain.poller.wait(0, [port], 0n);
  guest.domain.watchdogs.set(0, 1);
  guest.domain.timers.setSingleshot(0, guest.bridge.clock + 20_000_000n);
  await guest.bridge.resetMachine();
  await sleep(1200);
  t.deepEqual(guest.bridge.callsOf('complete'), []);
  t.deepEqual(guest.bridge.callsOf('power'), []);
});

test('a backend that fails to let go is logged, and the reset goes on', async (t) => {
  const guest = new Guest().endWith(t);
  guest.domain.onLetGo(() => Promise.reject(new Error('stuck')));
  guest.domain.onLetGo(() => {
    throw new Error('broken');
  });
  await guest.bridge.resetMachine();
  t.is(guest.lines.filter(({ level }) => level === 'error').length, 2);
  t.is(guest.domain.store.gfn, 0xfeff8);
});

test('events of backends sent before the guest placed shared_info are not lost', (t) => {
  const guest = new Guest().endWith(t);
  const { port } = guest.domain.store;
  native.eventfdSignal(port.callFd);
  share(guest);
  t.true(guest.domain.areas.bits.pending(port.remotePort));
  t.is(guest.bridge.upcalls.get(0), 1);
});

test('shared_info placed in a frame of RAM given back works, and giving up the place leaves a hole', (t) => {
  const guest = new Guest().endWith(t);
  t.true(guest.domain.physmap.decrease(800));
  share(guest, 800);
  t.is(guest.domain.p2m.kind(800), 'ram');
  share(guest, 0x10);
  t.is(guest.domain.p2m.kind(800), 'hole');
});

test('QEMU is gone: the domain ends quietly, with a poll and timers under way', async (t) => {
  const guest = new Guest();
  t.teardown(() => guest.bridge.close());
  const port = guest.domain.channels.bindIpi(0);
  guest.domain.poller.wait(0, [port], 0n);
  guest.domain.timers.setPeriodic(0, 1_000_000n);
  guest.bridge.lose();
  guest.bridge.calls.length = 0;
  await sleep(20);
  t.deepEqual(guest.bridge.calls, []);
});
