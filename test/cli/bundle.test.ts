/** The command as it is run: out of dist/bundle, which other tests do not use. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

import { statisticsBuffer } from '../../backends/block/statistics.js';
import type { WorkerSettings } from '../../backends/block/messages.js';
import type { VifWorkerSettings } from '../../backends/net/messages.js';
import { COUNTER_BYTES } from '../../backends/net/stats.js';
import { VIF_MEMORY_BYTES } from '../../backends/net/vif-memory.js';
import { WorkerHost } from '../../backends/worker-host.js';
import { commands } from '../../cli/commands.js';
import { RUN_USAGE } from '../../cli/run/options.js';
import * as kit from '../../shim/backend-kit.js';
import { silentLog } from '../../shim/observe/log.js';
import { FakeGuest } from '../helpers/fake-frontend-guest.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'xenshim-bundle-'));
test.after.always(() => {
  rmSync(dir, { recursive: true });
});

function xenshim(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [join(root, 'cli/xenshim.mjs'), ...args], { encoding: 'utf8' });
}

test('every command tells its usage', (t) => {
  t.is(xenshim('run', '--help').stdout, RUN_USAGE);
  for (const name of Object.keys(commands)) {
    const { status, stdout, stderr } = xenshim(name, '--help');
    t.is(status, 0, `${name}: ${stderr}`);
    t.true(stdout.startsWith(`usage: xenshim ${name}`), `${name}: ${stdout}`);
  }
});

test("an operator's mistake is one line and a status", (t) => {
  const { status, stderr } = xenshim('run', '--disk', join(dir, 'none.img'), '--', 'no-such-qemu');
  t.is(status, 3);
  t.regex(stderr, /^xenshim: there is no program 'no-such-qemu': .* \[NO_QEMU\]\n$/);
});

test('a backend gets the classes the command itself uses, whichever way it loads them', (t) => {
  // As `npm link xenshim` makes it.
  mkdirSync(join(dir, 'node_modules'));
  symlinkSync(root, join(dir, 'node_modules/xenshim'));
  const qemu = join(dir, 'qemu');
  writeFileSync(qemu, '#!/bin/sh\necho QEMU emulator version 9.9\n', { mode: 0o755 });
  const refuse = "throw new OperatorError('NOT_TODAY', 'no luck', 'try tomorrow');\n";
  writeFileSync(join(dir, 'backend.mjs'), `import { OperatorError } from 'xenshim/backend-kit';\n${refuse}`);
  writeFileSync(join(dir, 'backend.cjs'), `const { OperatorError } = require('xenshim/backend-kit');\n${refuse}`);
  for (const name of ['backend.mjs', 'backend.cjs']) {
    const { status, stderr } = xenshim('run', '--backend', join(dir, name), '--', qemu);
    t.is(status, 2);
    t.regex(stderr, /cannot be loaded: no luck: try tomorrow \[NOT_TODAY\]: .* \[BACKEND_LOAD\]\n$/, name);
  }
});

test('the kit of the bundle has the names of the kit', (t) => {
  const bundled = createRequire(import.meta.url)(join(root, 'dist/bundle/backend-kit.js')) as object;
  t.deepEqual(Object.keys(bundled).sort(), Object.keys(kit).sort());
});

/** What a thread of the bundle tells first. */
async function first(script: string, data: unknown): Promise<unknown> {
  let host: WorkerHost | undefined;
  try {
    return await new Promise((event, lost) => {
      host = new WorkerHost({
        script: new URL(`../../bundle/threads/backends/${script}`, import.meta.url),
        name: script, data, log: silentLog, event, lost,
      });
    });
  } finally {
    await host?.close();
  }
}

test('the threads of the bundle attach to the guest', async (t) => {
  const guest = new FakeGuest();
  t.teardown(() => {
    guest.close();
  });
  const disk: WorkerSettings = {
    guest: guest.handles, place: { kind: 'null' }, statistics: statisticsBuffer(1),
    target: { sectors: 8, sectorSize: 512, physicalSectorSize: 512, readonly: false, discardGranularity: undefined },
  };
  t.like(await first('block/worker.js', disk), { kind: 'attached' });
  const vif: VifWorkerSettings = { guest: guest.handles, counters: new SharedArrayBuffer(COUNTER_BYTES), memory: new SharedArrayBuffer(VIF_MEMORY_BYTES) };
  t.like(await first('net/worker.js', vif), { kind: 'attached' });
  t.like(await first('net/control-worker.js', { guest: guest.handles, memory: vif.memory }), { kind: 'attached' });
});
