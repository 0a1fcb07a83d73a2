/**
 * `npm run bench:hypercall`: what a hypercall costs that the shim answers, beside the bare exit of a port write, on this
 * machine's KVM and in each mode it has. The guest is a loop of a few instructions; the answer takes the whole way through
 * dispatcher and handler (xen_version).
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kvmMode, probeKvm, type KvmMode } from '../../../cli/check/kvm.js';
import { createLogger } from '../../../cli/run/logger.js';
import { pluginPath } from '../../../cli/run/qemu-process.js';
import { native } from '../../../kvm/native.js';
import { NativeBridge } from '../../../kvm/native-bridge.js';
import { XEN_VERSION } from '../../../shim/abi/release.js';
import { Domain } from '../../../shim/domain/domain.js';
import { OWN_PAGES } from '../../../shim/domain/own-pages.js';
import { Dispatcher } from '../../../shim/hypercall/dispatch.js';
import { median } from '../helpers/native-load.js';

const ROUNDS = 5;
const TIMES = 20_000;

const source = fileURLToPath(new URL('../../../../test/performance/hypercall/machine.cc', import.meta.url));
const log = createLogger('error', 'text');

/** ns of one; the machine is started anew. */
async function measure(program: string, what: 'bare' | 'call', mode: KvmMode): Promise<number> {
  const bridge = new NativeBridge({
    ownPages: OWN_PAGES,
    xenVersion: XEN_VERSION,
    anyKvm: mode === 'any-kvm',
    log: (level, line) => {
      if (level >= 40) process.stderr.write(`${line}\n`);
    },
  });
  let domain: Domain | undefined;
  let dispatcher: Dispatcher | undefined;
  bridge.listen({
    hypercall: (exit) => {
      domain ??= new Domain({ bridge, config: { name: 'bench' }, log });
      dispatcher ??= new Dispatcher(domain);
      return dispatcher.dispatch(exit);
    },
    reset: () => {},
    ramChanged: () => {},
    closed: () => {},
  });
  const machine = spawn(program, [what, String(TIMES)], {
    stdio: ['ignore', 'pipe', 'inherit', bridge.pluginFd],
    env: { ...process.env, LD_PRELOAD: pluginPath(), XENSHIM_BRIDGE: '3' },
  });
  native.closeFd(bridge.pluginFd);
  let output = '';
  machine.stdout!.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const status = await new Promise((resolve) => machine.once('close', resolve));
  domain?.close();
  bridge.close();
  if (status !== 0 || output === '') throw new Error(`the machine ended with ${String(status)}`);
  return Number(output);
}


const folder = mkdtempSync(join(tmpdir(), 'xenshim-hypercall-'));
try {
  const program = join(folder, 'machine');
  execFileSync('c++', ['-std=gnu++20', '-O2', '-o', program, source], { stdio: 'inherit' });
  const probe = probeKvm();
  const modes = (['xen', 'any'] as const).flatMap((wanted) => {
    try {
      return [kvmMode(probe, wanted)];
    } catch (error) {
      process.stdout.write(`mode ${wanted}: skipped, ${(error as Error).message}\n`);
      return [];
    }
  });
  for (const mode of modes) {
    const bare: number[] = [];
    const call: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      bare.push(await measure(program, 'bare', mode));
      call.push(await measure(program, 'call', mode));
    }
    const [exit, hypercall] = [median(bare), median(call)];
    process.stdout.write(`mode ${mode}: bare exit ${(exit / 1000).toFixed(2)} µs, hypercall ${(hypercall / 1000).toFixed(2)} µs, ` +
      `ratio ${(hypercall / exit).toFixed(2)} (${ROUNDS} rounds of ${TIMES})\n`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
