import test from 'ava';
import fc from 'fast-check';
import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { Errno } from '../../../shim/abi/errno.js';
import { silentLog } from '../../../shim/observe/log.js';
import { XenError } from '../../../shim/observe/errors.js';
import { BackendDevice } from '../../../shim/xenbus/backend-device.js';
import { VifDevice } from '../../../backends/net/vif-device.js';
import { nextVif } from '../../../backends/net/vif-states.js';
import { MAX_XDP_HEADROOM, readFrontend, readXdpHeadroom } from '../../../backends/net/features.js';
import { FakeStore, turns } from '../../helpers/fake-store.js';

const ID = { kind: 'vif', domid: 1, id: 0 };
const FRONT = '/local/domain/1/device/vif/0';
const BACK = '/local/domain/0/backend/vif/1/0';
const S = XenbusState;

/** Walks the table as the machine does; returns the backend's new state, effects and hops. */
function walk(backend: XenbusState, frontend: number, online: boolean): {
  state: XenbusState; effects: string[]; path: XenbusState[]; removed: boolean;
} {
  let state = backend;
  const effects: string[] = [];
  const path: XenbusState[] = [];
  for (let hop = 0; hop < 20; hop++) {
    const next = nextVif(state, frontend, online);
    if (next === undefined) return { state, effects, path, removed: false };
    effects.push(...next.effects);
    state = next.state;
    path.push(state);
    if (next.fatal !== undefined || next.remove === true) return { state, effects, path, removed: next.remove === true };
  }
  throw new Error(`no rest from ${backend} with frontend ${frontend}`);
}

test('E101: every pair of states comes to rest without an abort, whatever the frontend writes', (t) => {
  for (const backend of Object.values(S)) {
    for (const frontend of [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99, 0x7fffffff]) {
      for (const online of [true, false]) t.notThrows(() => walk(backend, frontend, online));
    }
  }
});

test('E101: whatever the sequence of frontend states, a connection is ended before the next one is made', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -1, max: 9 }), { maxLength: 40 }), (sequence) => {
      let backend: XenbusState = S.InitWait;
      let connected = false;
      for (const frontend of sequence) {
        const { state, effects, removed } = walk(backend, frontend, true);
        for (const effect of effects) {
          if (effect === 'connect') {
            if (connected) return false;
            connected = true;
          } else if (effect === 'disconnect') {
            connected = false;
          }
        }
        backend = state;
        if ((backend === S.Connected || backend === S.Reconfigured) !== connected) return false;
        if (removed) return true;
      }
      return true;
    }),
    { numRuns: 500 },
  );
  t.pass();
});

test('E101: the frontend sequence 4, 1, 4, 6, 1 connects once for each 4 and ends in InitWait', (t) => {
  let backend: XenbusState = S.InitWait;
  const effects: string[] = [];
  for (const frontend of [4, 1, 4, 6, 1]) {
    const walked = walk(backend, frontend, true);
    backend = walked.state;
    effects.push(...walked.effects.filter((effect) => effect === 'connect'));
  }
  t.is(backend, S.InitWait);
  t.is(effects.length, 2);
});

test('goals are reached over the shortest path of legal states', (t) => {
  const path = (backend: XenbusState, frontend: number) => walk(backend, frontend, true).path;
  t.deepEqual(path(S.Connected, S.Initialising), [S.Closing, S.Closed, S.InitWait]);
  t.deepEqual(path(S.Closing, S.Connected), [S.Closed, S.InitWait, S.Connected]);
  t.deepEqual(path(S.Initialising, S.Connected), [S.InitWait, S.Connected]);
  t.deepEqual(path(S.Connected, S.Closed), [S.Closing, S.Closed]);
  t.deepEqual(path(S.Connected, S.Initialised), []);
  t.deepEqual(path(S.Connected, S.Reconfiguring), [S.Reconfigured]);
  t.deepEqual(path(S.Reconfigured, S.Connected), [S.Connected]);
  t.deepEqual(path(S.Reconfigured, S.Closing), [S.Closing]);
  t.deepEqual(path(S.Closed, S.Closing), []);
});

test('a frontend that is closed and not online any more, or gone, removes the device', (t) => {
  t.true(walk(S.Connected, S.Closed, false).removed);
  t.true(walk(S.Connected, S.Unknown, true).removed);
  t.false(walk(S.Connected, S.Closed, true).removed);
});

function frontend(nodes: Record<string, string>): BackendDevice {
  const store = new FakeStore();
  for (const [key, value] of Object.entries(nodes)) store.write(`${FRONT}/${key}`, value);
  return new BackendDevice(store, ID, silentLog);
}

const MODEST = {
  'request-rx-copy': '1',
  'tx-ring-ref': '8',
  'rx-ring-ref': '9',
  'event-channel': '5',
};
const MODERN = {
  'request-rx-copy': '1',
  'tx-ring-ref': '8',
  'rx-ring-ref': '9',
  'event-channel-tx': '5',
  'event-channel-rx': '6',
  'feature-rx-notify': '1',
  'feature-sg': '1',
  'feature-gso-tcpv4': '1',
  'feature-gso-tcpv6': '1',
  'feature-ipv6-csum-offload': '1',
};

test('a modern frontend gets everything it asks for', (t) => {
  t.deepEqual(readFrontend(frontend(MODERN), 4), {
    queues: [{ txRef: 8, rxRef: 9, txPort: 5, rxPort: 6 }],
    scatterGather: true,
    notifies: true,
    offloads: { csum4: true, csum6: true, tso4: true, tso6: true },
    control: undefined,
  });
});

test('a frontend of the first days gets plain frames and one channel', (t) => {
  t.deepEqual(readFrontend(frontend({ ...MODEST, 'feature-no-csum-offload': '1' }), 4), {
    queues: [{ txRef: 8, rxRef: 9, txPort: 5, rxPort: 5 }],
    scatterGather: false,
    notifies: false,
    offloads: { csum4: false, csum6: false, tso4: false, tso6: false },
    control: undefined,
  });
});

test('segmentation is not handed on without scatter-gather or without its checksum', (t) => {
  const offloads = (nodes: Record<string, string>) => readFrontend(frontend({ ...MODERN, ...nodes }), 4).offloads;
  t.deepEqual(offloads({ 'feature-sg': '0' }), { csum4: true, csum6: true, tso4: false, tso6: false });
  t.deepEqual(offloads({ 'feature-no-csum-offload': '1' }), { csum4: false, csum6: true, tso4: false, tso6: true });
  t.deepEqual(offloads({ 'feature-ipv6-csum-offload': '0' }), { csum4: true, csum6: false, tso4: true, tso6: false });
});

function without(nodes: Record<string, string>, ...keys: string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(nodes).filter(([key]) => !keys.includes(key)));
}

function errno(nodes: Record<string, string>): number | undefined {
  try {
    readFrontend(frontend(nodes), 4);
    return undefined;
  } catch (error) {
    return error instanceof XenError ? error.errno : -1;
  }
}

test('E88: no request-rx-copy is fatal with EOPNOTSUPP', (t) => {
  t.is(errno(without(MODERN, 'request-rx-copy')), Errno.EOPNOTSUPP);
  t.is(errno({ ...MODERN, 'request-rx-copy': '0' }), Errno.EOPNOTSUPP);
});

test('E88: one of two split channels falls back to the single one, and neither is fatal', (t) => {
  const half = without(MODERN, 'event-channel-rx');
  t.is(errno(half), Errno.EINVAL);
  t.deepEqual(readFrontend(frontend({ ...half, 'event-channel': '7' }), 4).queues[0], {
    txRef: 8, rxRef: 9, txPort: 7, rxPort: 7,
  });
});

test('E52: ring references that are no numbers are fatal with EINVAL', (t) => {
  for (const ref of ['', '-1', '0x8', '8\0junk', ' 8', '4294967296', '9'.repeat(1024), 'ring']) {
    t.is(errno({ ...MODERN, 'tx-ring-ref': ref }), Errno.EINVAL, ref.slice(0, 20));
    t.is(errno({ ...MODERN, 'rx-ring-ref': ref }), Errno.EINVAL, ref.slice(0, 20));
  }
  t.is(errno(without(MODERN, 'tx-ring-ref')), Errno.EINVAL);
});

test('E54: 0 queues, or more than offered, are fatal with EINVAL', (t) => {
  t.is(errno({ ...MODERN, 'multi-queue-num-queues': '0' }), Errno.EINVAL);
  t.is(errno({ ...MODERN, 'multi-queue-num-queues': '5' }), Errno.EINVAL);
  t.is(errno({ ...MODERN, 'multi-queue-num-queues': '1' }), undefined);
});

test('with several queues each has a directory of its own, and keys beside them do not count', (t) => {
  const { queues } = readFrontend(
    frontend({
      ...MODEST,
      'multi-queue-num-queues': '2',
      'queue-0/tx-ring-ref': '18', 'queue-0/rx-ring-ref': '19', 'queue-0/event-channel': '15',
      'queue-1/tx-ring-ref': '28', 'queue-1/rx-ring-ref': '29',
      'queue-1/event-channel-tx': '25', 'queue-1/event-channel-rx': '26',
    }),
    4,
  );
  t.deepEqual(queues, [
    { txRef: 18, rxRef: 19, txPort: 15, rxPort: 15 },
    { txRef: 28, rxRef: 29, txPort: 25, rxPort: 26 },
  ]);
  t.is(errno({ ...MODERN, 'multi-queue-num-queues': '2' }), Errno.EINVAL);
});

test('a control ring needs its event channel, and a channel alone is no ring', (t) => {
  const control = (nodes: Record<string, string>) => readFrontend(frontend({ ...MODERN, ...nodes }), 1).control;
  t.deepEqual(control({ 'ctrl-ring-ref': '480', 'event-channel-ctrl': '9' }), { ref: 480, port: 9 });
  t.is(control({ 'event-channel-ctrl': '9' }), undefined);
  t.is(errno({ ...MODERN, 'ctrl-ring-ref': '480' }), Errno.EINVAL);
});

test('the headroom is what the frontend asks for, as far as a page can give it, and nonsense is none', (t) => {
  const headroom = (text: string) => readXdpHeadroom(frontend({ 'xdp-headroom': text }));
  t.is(headroom('256'), 256);
  t.is(readXdpHeadroom(frontend({})), 0);
  for (const text of ['', '-1', '0x100', '65536', '256 ']) t.is(headroom(text), 0, text);
  for (const text of ['4096', '32767', '65535']) t.is(headroom(text), MAX_XDP_HEADROOM, text);
});

function gated(): { store: FakeStore; device: VifDevice; state: () => string | undefined } {
  const store = new FakeStore();
  store.write(`${BACK}/state`, '2');
  return { store, device: new VifDevice(store, ID, silentLog), state: () => store.read(`${BACK}/state`) };
}

test('a state decided on before the host side is in place is written when it is', async (t) => {
  const { store, device, state } = gated();
  device.awaitHotplug();
  device.switchState(S.Connected);
  await turns();
  t.is(state(), '2');
  t.is(device.state, S.Connected);
  store.write(`${BACK}/hotplug-status`, 'error');
  store.write(`${BACK}/hotplug-status`, 'connected ');
  await turns();
  t.is(state(), '2');
  store.write(`${BACK}/hotplug-status`, 'connected');
  await turns();
  t.is(state(), '4');
});

test('while the gate is shut only the latest state counts', async (t) => {
  const { store, device, state } = gated();
  device.awaitHotplug();
  device.switchState(S.Connected);
  device.switchState(S.Closing);
  device.switchState(S.Closed);
  device.hotplugDone();
  await turns();
  t.is(state(), '6');
  t.deepEqual(store.writes.filter((write) => write.startsWith(`${BACK}/state=`)).slice(1), [`${BACK}/state=6`]);
});

test('the gate opens once: later states are written at once', async (t) => {
  const { device, state, store } = gated();
  device.hotplugDone();
  device.awaitHotplug();
  device.switchState(S.Connected);
  await turns();
  t.is(state(), '4');
  store.remove(`${BACK}/hotplug-status`);
  device.switchState(S.Closing);
  t.is(state(), '5');
  t.is(store.watches, 0);
});

test('E95: a state held back is not written into a directory that has been removed', async (t) => {
  const { store, device } = gated();
  device.awaitHotplug();
  device.switchState(S.Connected);
  store.remove(BACK);
  device.hotplugDone();
  await turns();
  t.false(store.exists(BACK));
});
