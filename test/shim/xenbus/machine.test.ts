import test from 'ava';

import { XenbusState as S } from '../../../shim/abi/io/xenbus.js';
import { XenError } from '../../../shim/observe/errors.js';
import { silentLog } from '../../../shim/observe/log.js';
import { BackendDevice } from '../../../shim/xenbus/backend-device.js';
import { DeviceMachine } from '../../../shim/xenbus/machine.js';
import { backendPath, errorPath, frontendPath } from '../../../shim/xenbus/paths.js';
import { createDevice, requestDetach } from '../../../shim/xenbus/toolstack.js';
import { nextVbd } from '../../../shim/xenbus/vbd-states.js';
import type { VbdEffect } from '../../../shim/xenbus/vbd-states.js';
import { FakeStore, turns } from '../../helpers/fake-store.js';

const id = { kind: 'vbd', domid: 1, id: 51712 };
const state = `${frontendPath(id)}/state`;

function machine(perform: (effect: VbdEffect) => void | Promise<void> = () => {}) {
  const store = new FakeStore();
  createDevice(store, id, {}, {});
  const device = new BackendDevice(store, id, silentLog);
  const log: string[] = [];
  const running = new DeviceMachine<VbdEffect>(device, nextVbd, {
    perform: (effect) => {
      log.push(effect);
      return perform(effect);
    },
    failed: () => {
      log.push('failed');
    },
    removed: () => {
      log.push('removed');
    },
  });
  device.switchState(S.InitWait);
  running.start();
  return { store, device, log, running, backend: () => store.read(`${backendPath(id)}/state`) };
}

test('E51: frontend states 3 then 3 again connect once; 1 to 4 connects', async (t) => {
  const { store, log, backend } = machine();
  await turns();
  store.write(state, '3');
  await turns();
  store.write(state, '3');
  await turns();
  t.is(backend(), '4');
  store.write(state, '4');
  await turns();
  t.deepEqual(log, ['disconnect', 'connect']);
  const other = machine();
  await turns();
  other.store.write(state, '4');
  await turns();
  t.is(other.backend(), '4');
});

test('E51: frontend state 99 is fatal EINVAL, once', async (t) => {
  const { store, log, backend } = machine();
  await turns();
  store.write(state, '99');
  await turns(8);
  t.is(backend(), '5');
  t.is(store.read(errorPath(id)), '22 saw state 99 at frontend');
  t.deepEqual(log, ['failed']);
});

test('E94: a state of junk is fatal and the device can be used again afterwards', async (t) => {
  const { store, log, backend } = machine();
  await turns();
  store.write(state, '4\0junk');
  await turns();
  t.is(backend(), '5');
  for (const next of ['6', '1', '3']) {
    store.write(state, next);
    await turns();
  }
  t.is(backend(), '4');
  t.deepEqual(log, ['failed', 'disconnect', 'disconnect', 'connect']);
});

test('a failed connection is told once and not tried again until the frontend moves', async (t) => {
  let tries = 0;
  const { store, log, backend } = machine((effect) => {
    if (effect === 'connect' && ++tries === 1) throw new XenError(22, 'reading ring-ref');
  });
  await turns();
  store.write(state, '3');
  await turns(10);
  t.is(backend(), '5');
  t.is(store.read(errorPath(id)), '22 reading ring-ref');
  t.deepEqual(log, ['disconnect', 'connect', 'failed']);
  store.write(state, '3');
  await turns(10);
  t.is(backend(), '4');
});

test('a bug in an effect ends that device with EIO', async (t) => {
  const { store, backend } = machine((effect) => {
    if (effect === 'connect') throw new TypeError('bug');
  });
  await turns();
  store.write(state, '3');
  await turns();
  t.is(backend(), '5');
  t.is(store.read(errorPath(id)), '5 internal error');
});

test('changes during a slow effect are looked at afterwards, however many there were', async (t) => {
  let release = (): void => {};
  const { store, log, backend, running } = machine((effect) =>
    effect === 'connect' ? new Promise<void>((resolve) => (release = resolve)) : undefined,
  );
  await turns();
  store.write(state, '3');
  await turns();
  for (let i = 0; i < 1000; i++) store.write(state, i % 2 === 0 ? '5' : '6');
  await turns();
  t.deepEqual(log, ['disconnect', 'connect']);
  release();
  await running.settled();
  await turns();
  t.is(backend(), '6');
  t.deepEqual(log, ['disconnect', 'connect', 'disconnect']);
});

test('a detached device is removed after its frontend has closed, and the machine stops watching', async (t) => {
  const { store, log, backend } = machine();
  await turns();
  store.write(state, '4');
  await turns();
  requestDetach(store, id);
  await turns();
  store.write(state, '5');
  await turns();
  store.write(state, '6');
  await turns();
  t.is(backend(), '6');
  t.deepEqual(log, ['disconnect', 'connect', 'disconnect', 'removed']);
  t.is(store.watches, 0);
});

test('E95: deletion of the backend\'s directory tears the device down and nothing comes back', async (t) => {
  const { store, log } = machine();
  await turns();
  store.write(state, '4');
  await turns();
  store.remove(backendPath(id));
  await turns();
  t.deepEqual(log, ['disconnect', 'connect', 'disconnect', 'removed']);
  t.false(store.exists(backendPath(id)));
});
