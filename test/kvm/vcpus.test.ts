import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { BridgeEvents } from '../../kvm/bridge.js';
import { native } from '../../kvm/native.js';
import { NativeBridge } from '../../kvm/native-bridge.js';

/** The tree the sources are in: this file runs from dist/test/kvm. */
const root = fileURLToPath(new URL('../../../', import.meta.url));

function unavailable(): string | undefined {
  try {
    execFileSync('c++', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'no c++: install g++';
  }
}

const reason = unavailable();
if (reason !== undefined) console.log(`vCPU threads of the plugin skipped: ${reason}`);
const threads = reason === undefined ? test : test.skip;

let folder = '';
let program = '';

test.before(() => {
  if (reason !== undefined) return;
  folder = mkdtempSync(join(tmpdir(), 'xenshim-vcpus-'));
  program = join(folder, 'vcpus');
  execFileSync('c++', [
    '-std=gnu++20', '-O1', '-pthread', `-I${root}kvm`, '-o', program,
    `${root}test/kvm/vcpus.cc`, `${root}kvm/plugin/hypercall.cc`,
  ], { stdio: ['ignore', 'inherit', 'inherit'] });
});

test.after.always(() => {
  if (folder !== '') rmSync(folder, { recursive: true });
});

interface Ended {
  readonly code: number | null;
  readonly said: string;
  /** ns a hypercall took on average. */
  readonly perCall: number;
}

/** Runs the threads against a shim that does `hypercall`, to their end. */
async function run(
  t: ExecutionContext,
  vcpus: number,
  calls: number,
  hypercall: (bridge: NativeBridge) => BridgeEvents['hypercall'],
): Promise<Ended> {
  const bridge = new NativeBridge({ ownPages: 1, xenVersion: 0, log: () => {} });
  bridge.listen({ hypercall: hypercall(bridge), reset: () => {}, ramChanged: () => {}, closed: () => {} });
  t.teardown(() => bridge.close());
  const child = spawn(program, [String(vcpus), String(calls)], {
    stdio: ['ignore', 'pipe', 'pipe', bridge.pluginFd],
    timeout: 30_000,
  });
  native.closeFd(bridge.pluginFd);
  let out = '';
  let said = '';
  child.stdout!.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, said, perCall: Number(out) };
}

const result = (args: BigUint64Array, cr3: bigint): number => Number(args[0]! + 7n * args[5]! + cr3);

threads('vCPU threads of the plugin that call all at once get their own answers', async (t) => {
  let calls = 0;
  const { code, said } = await run(t, 4, 500, () => ({ args, cr3 }) => (calls++, result(args, cr3)));
  t.is(code, 0, said);
  t.is(calls, 4 * 500);
});

threads('vCPU threads that sleep are woken by a late answer', async (t) => {
  const { code, said, perCall } = await run(t, 2, 50, (bridge) => ({ vcpu, args, cr3 }) => {
    setTimeout(() => bridge.complete(vcpu, result(args, cr3)), 1);
    return undefined;
  });
  t.is(code, 0, said);
  // Without a wake a thread looks again only after 50 ms.
  t.true(perCall < 25e6, `${perCall} ns a call`);
});
