import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'ava';

interface Stuck {
  testProcesses(group: number): { pid: number; file: string }[];
  end(pid: number): void;
}
const { testProcesses, end } = (await import(new URL('../../../../cli/setup/stuck.mjs', import.meta.url).href)) as Stuck;

test('a process that sleeps for ever in a system call is found by the file it runs, and ended', async (t) => {
  // Blocked where no event loop turns: only a signal nobody handles ends it.
  const script = `
    process.title = 'test /project/dist/test/abi/sizes.test.js';
    console.log('titled');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const exited = once(child, 'exit');
  await once(child.stdout, 'data');
  t.deepEqual(testProcesses(child.pid!), [{ pid: child.pid!, file: 'test/abi/sizes.test.js' }]);
  t.deepEqual(testProcesses(process.pid), []);
  end(child.pid!);
  t.deepEqual(await exited, [null, 'SIGKILL']);
  t.deepEqual(testProcesses(child.pid!), []);
  t.notThrows(() => {
    end(-child.pid!);
  });
});
