/** What can only be seen with a process of one's own: descriptors, CPU time, the exit. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

const script = fileURLToPath(new URL('cost-scenario.js', import.meta.url));

async function scenario(name: string): Promise<Record<string, number>> {
  const { stdout } = await promisify(execFile)(process.execPath, [script, name], { timeout: 60_000 });
  return JSON.parse(stdout) as Record<string, number>;
}

test('E72: a thousand rapid connects and disconnects leak no pins, ports or descriptors', async (t) => {
  const { descriptors, ports, pins, complaints } = await scenario('reconnect');
  t.deepEqual({ descriptors, ports, pins, complaints }, { descriptors: 0, ports: 0, pins: 0, complaints: 0 });
});

for (const [title, name] of [['an idle disk', 'idle'], ['an idle disk with persistent grants', 'idle-persistent']] as const) {
  test(`${title} uses no CPU`, async (t) => {
    const { workerMs } = await scenario(name);
    t.true(workerMs! < 10, `${workerMs} ms of CPU in an idle second`);
  });
}

test('E73: events without requests in an endless flood cost little CPU, and the next request is served within a second', async (t) => {
  const { workerMs, servedMs, events } = await scenario('flood');
  t.true(events! > 10_000);
  t.true(workerMs! < 100, `${workerMs} ms of CPU in a second of flood`);
  t.true(servedMs! < 1500, `served after ${servedMs} ms`);
});

test('a process that exits with a disk connected ends at once', async (t) => {
  const started = performance.now();
  await scenario('leave');
  t.true(performance.now() - started < 10_000);
});
