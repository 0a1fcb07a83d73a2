/**
 * `xenshim run`: what can go wrong for the operator is checked and opened first, then QEMU starts, and everything ends
 * with it. Xen itself is loaded while the firmware runs: that takes longer than QEMU's start, and nobody waits for it.
 */
import { constants } from 'node:os';
import { KvmXenCap } from '../../kvm/bridge.js';
import { native } from '../../kvm/native.js';
import { NativeBridge } from '../../kvm/native-bridge.js';
import { XEN_VERSION } from '../../shim/abi/release.js';
import { OWN_PAGES } from '../../shim/domain/own-pages.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import { ANY_KVM_COSTS, kvmMode, probeKvm } from '../check/kvm.js';
import { serveControl, type ControlHandlers } from '../control/server.js';
import { additions, guestSize, mentions } from '../qemu/command-line.js';
import { checkVersion, qemuProgram } from '../qemu/program.js';
import { makeRunDir, removeRunDir } from '../run-dir.js';
import { loadBackend } from './backend-option.js';
import { Cleanup } from './cleanup.js';
import { openDisk, placed, type DiskPart } from './disk-part.js';
import type { GuestParts } from './guest.js';
import { DOMID } from './domid.js';
import { createLogger } from './logger.js';
import { placeMemory } from './memory-option.js';
import { notUp } from './not-up.js';
import { openPaging } from './page-file.js';
import { parseRun, RUN_USAGE, type RunOptions } from './options.js';
import { openVif, type VifPart } from './vif-part.js';
import { startQemu, type QemuExit, type QemuProcess } from './qemu-process.js';

export async function run(argv: readonly string[]): Promise<number> {
  const options = parseRun(argv);
  if (options === undefined) {
    process.stdout.write(RUN_USAGE);
    return 0;
  }
  const cleanup = new Cleanup();
  try {
    return await runGuest(options, cleanup);
  } finally {
    await cleanup.run();
  }
}

async function runGuest(options: RunOptions, cleanup: Cleanup): Promise<number> {
  const log = createLogger(options.logLevel, options.logFormat);
  const [qemu, ...given] = options.qemu;
  const memory = placeMemory(options.memory, given);
  const qemuArgs = [...given, ...memory.args];
  const program = qemuProgram(qemu);
  const added = additions(qemuArgs);
  const disks = await openDisks(options, qemuArgs, cleanup, log);
  const vifs = openVifs(options, log, cleanup);
  const backends = await Promise.all(options.backends.map(loadBackend));
  // Last, so that whatever is wrong with the command itself is told on any machine.
  const mode = kvmMode(probeKvm(), options.kvmMode);

  const paging = options.paging && openPaging(options.paging, guestSize(qemuArgs).memory, qemuArgs);
  if (paging !== undefined) cleanup.add(() => paging.close());
  const dir = makeRunDir(options.name);
  // The guest's own commands come in when there is a guest.
  const handlers: Record<string, ControlHandlers[string]> = { shutdown: notUp, reboot: notUp };
  const control = await serveControl(dir.control, options.name, handlers);
  cleanup.add(() => removeRunDir(dir));
  cleanup.add(() => control.close());

  // Its answer takes as long as QEMU's start: nobody waits for it before.
  const versionChecked = checkVersion(program);
  versionChecked.catch(() => {});
  const anyKvm = mode === 'any-kvm';
  const bridge = new NativeBridge({ ownPages: OWN_PAGES, xenVersion: XEN_VERSION, anyKvm, log: pluginLog(log) });
  cleanup.add(() => bridge.close());
  const stdio = options.consoles.some(({ to }) => to === 'stdio');
  const machine = startQemu(program.path, [...qemuArgs, ...added], bridge.pluginFd, !stdio);
  native.closeFd(bridge.pluginFd);
  cleanup.add(async () => {
    machine.terminate();
    await machine.exited.catch(() => {});
  });
  stopWithUs(machine, cleanup);
  let connected = false;
  void bridge.connected.then((capabilities) => {
    connected = true;
    if (anyKvm) {
      log.info({ qemu: machine.pid }, `mode any-kvm: xenshim takes hypercalls itself; ${ANY_KVM_COSTS}`);
      return;
    }
    const names = Object.entries(KvmXenCap).filter(([, bit]) => (capabilities & bit) !== 0).map(([name]) => name);
    log.info({ qemu: machine.pid, capabilities: names.join(' ') }, 'mode kvm-xen: KVM forwards hypercalls');
  });

  const [{ openGuest }] = await Promise.all([import('./open-guest.js'), versionChecked]);
  const logFile = options.consoles.find((each) => each.to === 'log');
  const parts: Omit<GuestParts, 'xenstore'> = {
    bridge,
    name: options.name,
    ...guestSize(qemuArgs),
    ...(memory.target === undefined ? {} : { memoryTarget: memory.target }),
    domain: options.domain,
    disks,
    openDisk: (option, vdev) => openDisk(option, vdev, mentions(qemuArgs, option.file), log, options.queuesPerWorker),
    vifs,
    backends,
    ...(paging === undefined ? {} : { paging }),
    lost: () => machine.kill(),
    console: {
      socket: dir.console,
      ...(stdio ? { terminal: { input: process.stdin, output: process.stdout } } : {}),
      ...(logFile === undefined ? {} : { log: logFile.file }),
    },
    log,
  };
  await openGuest(parts, { qemuPid: machine.pid, xenstoreSocket: dir.xenstore, handlers }, cleanup);

  const exit = await machine.exited;
  if (!connected && exit.code === 0) {
    throw new OperatorError('NO_PLUGIN', 'QEMU ended without ever creating a KVM machine',
      'check that the command starts a machine and does not only print something');
  }
  log.info({ code: exit.code, signal: exit.signal }, 'QEMU has ended');
  return exitStatus(exit);
}

/** The plugin counts levels as pino does. */
function pluginLog(log: Log): (level: number, line: string) => void {
  return (level, line) => {
    if (level >= 50) log.error({}, line);
    else if (level >= 40) log.warn({}, line);
    else if (level >= 30) log.info({}, line);
    else log.debug({}, line);
  };
}

function stopWithUs(machine: QemuProcess, cleanup: Cleanup): void {
  const stop = (): void => {
    machine.terminate();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, stop);
    cleanup.add(() => {
      process.off(signal, stop);
    });
  }
}

async function openDisks(
  { disks, queuesPerWorker }: RunOptions,
  qemuArgs: readonly string[],
  cleanup: Cleanup,
  log: Log,
): Promise<DiskPart[]> {
  const parts: DiskPart[] = [];
  for (const option of placed(disks)) {
    const part = await openDisk(option, option.vdev, mentions(qemuArgs, option.file), log, queuesPerWorker);
    cleanup.add(() => part.image.close());
    parts.push(part);
  }
  return parts;
}

function openVifs(options: RunOptions, log: Log, cleanup: Cleanup): VifPart[] {
  return options.vifs.map((option, index) => {
    const vif = openVif(option, index, DOMID, log);
    cleanup.add(async () => {
      vif.link.close();
      await vif.capture?.close();
    });
    return vif;
  });
}

/** As a shell counts: a signal is 128 and its number. */
function exitStatus({ code, signal }: QemuExit): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}
