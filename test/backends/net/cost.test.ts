/** What can only be seen with a process of one's own: descriptors, CPU time, the exit. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

const script = fileURLToPath(new URL('cost-scenario.js', import.meta.url));

async function scenario(name: string): Promise<Record<string, number>> {
  const { stdout } = await promisify(execFile)(process.execPath, [script, name], { timeout: 90_000 });
  return JSON.parse(stdout) as Record<string, number>;
}

test('E72: a thousand rapid connects and disconnects of a vif leak no pins, ports or descriptors', async (t) => {
  const { descriptors, ports, pins } = await scenario('reconnect');
  t.true(descriptors! <= 0, `${descriptors} descriptors`);
  t.deepEqual({ ports, pins }, { ports: 0, pins: 0 });
});

test('an idle vif uses no CPU', async (t) => {
  const { workerMs } = await scenario('idle');
  t.true(workerMs! < 10, `${workerMs} ms of CPU in an idle second`);
});

test('E84: frames that wait for a guest without buffers cost no CPU', async (t) => {
  const { workerMs } = await scenario('starved');
  t.true(workerMs! < 10, `${workerMs} ms of CPU in a second of waiting`);
});

test('E73: events without requests in an endless flood cost a vif little CPU, and the next frame goes within a second', async (t) => {
  const { workerMs, servedMs, events } = await scenario('flood');
  t.true(events! > 10_000);
  t.true(workerMs! < 100, `${workerMs} ms of CPU in a second of flood`);
  t.true(servedMs! < 1500, `served after ${servedMs} ms`);
});

test('E75: a disabled vif uses no CPU, however much its guest rings', async (t) => {
  const { workerMs } = await scenario('disabled');
  t.true(workerMs! < 10, `${workerMs} ms of CPU in a second`);
});

test('a process that exits with a vif connected ends at once', async (t) => {
  const { leftAt } = await scenario('leave');
  const took = Date.now() - leftAt!;
  t.true(took < 4000, `${took} ms`);
});
