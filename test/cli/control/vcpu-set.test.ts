import test from 'ava';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serveControl } from '../../../cli/control/server.js';
import { vcpuSet } from '../../../cli/control/vcpu-set.js';
import { makeRunDir } from '../../../cli/run-dir.js';
import { silentLog } from '../../../shim/observe/log.js';
import { setVcpuAvailability } from '../../../shim/xenstore/vcpu-availability.js';
import { Xenstore } from '../../../shim/xenstore/xenstore.js';
import { refusedLater } from '../refused.js';

const root = mkdtempSync(join(tmpdir(), 'xenshim-vcpu-'));
process.env['XENSHIM_RUNDIR'] = root;
test.after.always(() => rmSync(root, { recursive: true }));

test('the first vCPUs become online, the others offline, and only what changes is written', async (t) => {
  const { client } = new Xenstore({ log: silentLog });
  for (let vcpu = 0; vcpu < 4; vcpu++) client.write(`/local/domain/1/cpu/${vcpu}/availability`, 'online');
  const changed: string[] = [];
  client.watch('/local/domain/1/cpu', (path) => changed.push(path));
  await new Promise((resolve) => setImmediate(resolve));
  changed.length = 0;
  setVcpuAvailability(client, 1, 4, 2);
  // Watches fire in an immediate, which a timer that is late comes before.
  await new Promise((resolve) => setTimeout(() => setImmediate(resolve), 5));
  t.deepEqual(changed, [2, 3].map((vcpu) => `/local/domain/1/cpu/${vcpu}/availability`));
  t.deepEqual(
    [0, 1, 2, 3].map((vcpu) => client.read(`/local/domain/1/cpu/${vcpu}/availability`)),
    ['online', 'online', 'offline', 'offline'],
  );
  setVcpuAvailability(client, 1, 4, 3);
  t.is(client.read('/local/domain/1/cpu/2/availability'), 'online');
});

test('the command passes the number on, and refuses what is none', async (t) => {
  const asked: unknown[] = [];
  const { control } = makeRunDir('web');
  const server = await serveControl(control, 'web', { 'vcpu-set': (args) => void asked.push(args) });
  t.teardown(() => server.close());
  t.is(await vcpuSet(['web', '2']), 0);
  t.deepEqual(asked, [{ count: 2 }]);
  for (const wrong of [['web'], ['web', 'two'], ['web', '-1'], ['web', '1', '2']]) {
    await refusedLater(t, 'USAGE', () => vcpuSet(wrong));
  }
});
