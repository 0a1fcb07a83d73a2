import test from 'ava';

import { XenbusState as S } from '../../../shim/abi/io/xenbus.js';
import { silentLog } from '../../../shim/observe/log.js';
import { BackendDevice } from '../../../shim/xenbus/backend-device.js';
import { backendPath, errorPath, frontendPath } from '../../../shim/xenbus/paths.js';
import { scanDevices, watchDevices } from '../../../shim/xenbus/scan.js';
import { createDevice, removeDevice, requestDetach } from '../../../shim/xenbus/toolstack.js';
import { FakeStore, turns } from '../../helpers/fake-store.js';

const id = { kind: 'vbd', domid: 1, id: 51712 };
const back = backendPath(id);
const front = frontendPath(id);

function device(): { store: FakeStore; dev: BackendDevice } {
  const store = new FakeStore();
  createDevice(store, id, { dev: 'xvda', mode: 'w' }, { 'virtual-device': '51712' });
  return { store, dev: new BackendDevice(store, id, silentLog) };
}

test('creation makes both ends Initialising, each readable by the other only', (t) => {
  const { store } = device();
  t.is(store.read(`${back}/frontend`), front);
  t.is(store.read(`${back}/frontend-id`), '1');
  t.is(store.read(`${back}/online`), '1');
  t.is(store.read(`${back}/state`), '1');
  t.is(store.read(`${front}/backend`), back);
  t.is(store.read(`${front}/backend-id`), '0');
  t.is(store.read(`${front}/state`), '1');
  t.is(store.read(`${front}/virtual-device`), '51712');
  for (const [path, permissions] of store.permissions) {
    t.deepEqual(permissions, path.startsWith(back) ? ['n0', 'r1'] : ['n1', 'r0'], path);
  }
  t.is(store.permissions.size, 2 + store.list(back)!.length + store.list(front)!.length);
});

test('switching to the state that is there already writes nothing', (t) => {
  const { store, dev } = device();
  dev.switchState(S.InitWait);
  const before = store.writes.length;
  dev.switchState(S.InitWait);
  t.is(store.writes.length, before);
  t.is(store.read(`${back}/state`), '2');
});

test('E95: no write of a backend brings its deleted directory back', (t) => {
  const { store, dev } = device();
  store.remove(back);
  dev.switchState(S.Connected);
  dev.publish({ sectors: '8' });
  dev.republish({ sectors: '8' });
  dev.fatal(22, 'reading ring-ref');
  t.false(store.exists(back));
  t.false(store.exists(errorPath(id)));
  t.false(dev.exists());
});

test('a fatal error is written beside the domain and closes the device', (t) => {
  const { store, dev } = device();
  dev.fatal(22, 'reading ring-ref');
  t.is(store.read('/local/domain/0/error/backend/vbd/1/51712/error'), '22 reading ring-ref');
  t.is(store.read(`${back}/state`), '5');
});

test('republishing writes the state over itself, so that the frontend looks again', (t) => {
  const { store, dev } = device();
  dev.switchState(S.Connected);
  store.writes.length = 0;
  dev.republish({ sectors: '16' });
  t.deepEqual(store.writes, [`${back}/sectors=16`, `${back}/state=4`]);
});

test('while the state is held only the latest one is kept, and it is written on release', (t) => {
  const { store, dev } = device();
  dev.holdState();
  dev.switchState(S.InitWait);
  dev.switchState(S.Connected);
  t.is(store.read(`${back}/state`), '1');
  t.is(dev.state, S.Connected);
  dev.releaseState();
  t.is(store.read(`${back}/state`), '4');
});

test('the watch fires after registration, on the frontend\'s state, on online and on deletion, not on our own writes', async (t) => {
  const { store, dev } = device();
  let fired = 0;
  dev.watch(() => fired++);
  await turns();
  t.true(fired >= 1);
  fired = 0;
  dev.switchState(S.InitWait);
  await turns();
  t.is(fired, 0);
  store.write(`${front}/state`, '3');
  await turns();
  t.is(fired, 1);
  store.write(`${back}/online`, '0');
  await turns();
  t.is(fired, 2);
  t.false(dev.online());
  removeDevice(store, id);
  await turns();
  t.true(fired > 2);
  dev.unwatch();
  t.is(store.watches, 0);
});

test('a detach asks with online 0 and Closing, and asks nothing of a device that is not there', (t) => {
  const { store } = device();
  requestDetach(store, id);
  t.is(store.read(`${back}/online`), '0');
  t.is(store.read(`${back}/state`), '5');
  removeDevice(store, id);
  requestDetach(store, id);
  t.false(store.exists(back));
  t.false(store.exists(front));
});

test('devices there before the backend are found, those that come later too, each once; other names are passed over', async (t) => {
  const { store } = device();
  store.write('/local/domain/0/backend/vbd/junk/1/state', '1');
  store.write('/local/domain/0/backend/vbd/1/x/state', '1');
  store.write('/local/domain/0/backend/vbd/2/7/params', 'no state yet');
  t.deepEqual(scanDevices(store, 'vbd'), [id]);
  const seen: number[] = [];
  const stop = watchDevices(store, 'vbd', (found) => seen.push(found.id));
  await turns();
  t.deepEqual(seen, [51712]);
  createDevice(store, { ...id, id: 51728 }, {}, {});
  await turns();
  t.deepEqual(seen, [51712, 51728]);
  removeDevice(store, id);
  await turns();
  createDevice(store, id, {}, {});
  await turns();
  t.deepEqual(seen, [51712, 51728, 51712]);
  stop();
});
