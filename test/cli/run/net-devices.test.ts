import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { netControl } from '../../../cli/run/net-control.js';
import { NetDevices, type NetStatus } from '../../../cli/run/net-devices.js';
import { silentLog } from '../../../shim/observe/log.js';
import { plainFrame } from '../../backends/net/frames.js';
import { until, VifLab } from '../../backends/net/vif-lab.js';
import { refusedLater } from '../refused.js';

/** A guest that has found Xen, with the lab's own vif 0 beside what the control socket attaches as 0, 1 … of its own. */
function guest() {
  const lab = new VifLab();
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-net-'));
  const devices = new NetDevices([], silentLog);
  devices.start(() => ({ store: lab.store, ports: lab.ports, handles: lab.front.handles, domid: 2, log: silentLog }));
  const handlers = netControl(devices);
  const ask = async (command: string, args: object = {}): Promise<unknown> => handlers[`net-${command}`]!({ ...args });
  const front = (index: number): string => `/local/domain/2/device/vif/${index}`;
  const end = async (): Promise<number> => {
    await devices.close();
    rmSync(dir, { recursive: true });
    return lab.close();
  };
  return { lab, dir, devices, ask, front, end };
}

const attach = { vif: 'socket=one,server,mac=00:16:3e:00:00:07,mtu=4000,rate=8Mb/s' };

test('an interface that is attached takes the first free index, is listed, and is gone after an orderly detach', async (t) => {
  const { lab, dir, ask, front, end } = guest();
  t.is(await ask('attach', { ...attach, cwd: dir }), 0);
  t.is(await ask('attach', { vif: 'socket=two,server', cwd: dir }), 1);
  const rows = (await ask('list')) as NetStatus[];
  t.deepEqual(rows.map(({ index, mtu, rate, state, up }) => [index, mtu, rate, state, up]), [
    [0, '4000', '50000,50000', 'InitWait', true], [1, '', '', 'InitWait', true],
  ]);
  t.is(rows[0]!.mac, '00:16:3e:00:00:07');
  t.is(lab.store.read(`${front(0)}/mac`), '00:16:3e:00:00:07');
  const detached = ask('detach', { index: 0 });
  lab.store.write(`${front(0)}/state`, '6');
  await detached;
  t.false(lab.store.exists(front(0)));
  t.deepEqual(((await ask('list')) as NetStatus[]).map(({ index }) => index), [1]);
  t.is(await ask('attach', { ...attach, cwd: dir }), 0);
  await ask('detach', { index: 1, force: true });
  t.deepEqual(((await ask('list')) as NetStatus[]).map(({ index }) => index), [0]);
  t.is(await end(), 0);
});

test('what is set is seen in the store and in the list', async (t) => {
  const { lab, dir, ask, front, end } = guest();
  await ask('attach', { ...attach, cwd: dir });
  await ask('set', { index: 0, mac: '00:16:3e:00:00:08', mtu: 1400, rate: '', up: false });
  const [row] = (await ask('list')) as NetStatus[];
  t.deepEqual([row!.mac, row!.mtu, row!.rate, row!.up], ['00:16:3e:00:00:08', '1400', '', false]);
  t.is(lab.store.read('/local/domain/0/backend/vif/2/0/carrier'), '0');
  t.is(lab.store.read(`${front(0)}/mtu`), '1400');
  await refusedLater(t, 'MTU', () => ask('set', { index: 0, mtu: 1 }));
  t.is(await end(), 0);
});

test('what cannot be done is refused with a code, and leaves nothing', async (t) => {
  const { dir, devices, ask, end } = guest();
  await refusedLater(t, 'NET_UNKNOWN', () => ask('detach', { index: 0 }));
  await refusedLater(t, 'NET_UNKNOWN', () => ask('stat', { index: 3 }));
  await refusedLater(t, 'USAGE', () => ask('attach', { vif: 'wire=x', cwd: dir }));
  await refusedLater(t, 'SOCKET_CONNECT', () => ask('attach', { vif: 'socket=nobody', cwd: dir }));
  await refusedLater(t, 'PCAP_FILE', () => ask('attach', { vif: 'socket=s,server,pcap=none/x', cwd: dir }));
  await refusedLater(t, 'BAD_REQUEST', () => ask('detach', {}));
  t.deepEqual(await ask('list'), []);
  // The socket of the attempt that failed is free again.
  t.is(await ask('attach', { vif: 'socket=s,server', cwd: dir }), 0);
  await devices.letGo();
  await refusedLater(t, 'NOT_UP', () => ask('attach', { ...attach, cwd: dir }));
  await refusedLater(t, 'NOT_UP', () => ask('detach', { index: 0 }));
  devices.restart();
  t.is(((await ask('list')) as NetStatus[])[0]!.state, 'InitWait');
  t.is(await end(), 0);
});

test('statistics are those of each queue', async (t) => {
  const lab = new VifLab({ queues: 2 });
  await lab.connect();
  lab.front.queues[1]!.send(plainFrame(100));
  await until(() => lab.backend.stats().txPackets === 1);
  t.deepEqual(lab.backend.stats().queues.map(({ txPackets, txBytes }) => [txPackets, txBytes]), [[0, 0], [1, 100]]);
  t.is(await lab.close(), 0);
});
