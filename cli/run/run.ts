/** `xenshim run`: everything a guest needs is opened and checked first, then QEMU starts, and all of it ends with QEMU. */
import { realpathSync } from 'node:fs';
import { constants } from 'node:os';
import { openImage } from '../../backends/block/image.js';
import { openTap } from '../../backends/net/tap.js';
import { KvmXenCap } from '../../kvm/bridge.js';
import { native } from '../../kvm/native.js';
import { NativeBridge } from '../../kvm/native-bridge.js';
import { OWN_PAGES } from '../../shim/domain/own-pages.js';
import { XEN_VERSION } from '../../shim/hypercall/xen-version.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { serveSocket } from '../../shim/xenstore/socket.js';
import { Xenstore } from '../../shim/xenstore/xenstore.js';
import { requireKvm } from '../check/kvm.js';
import { serveControl } from '../control/server.js';
import { additions, guestSize, mentions } from '../qemu/command-line.js';
import { checkedProgram } from '../qemu/program.js';
import { makeRunDir, removeRunDir } from '../run-dir.js';
import { Cleanup } from './cleanup.js';
import { Guest, type DiskPart, type VifPart } from './guest.js';
import { guestControl } from './guest-control.js';
import { createLogger } from './logger.js';
import { parseRun, RUN_USAGE, type RunOptions } from './options.js';
import { startQemu, type QemuExit } from './qemu-process.js';

/** How long QEMU may take from its start to the plugin's hello, ms. */
const HELLO_MS = 60_000;

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
  const [qemu, ...qemuArgs] = options.qemu;
  const program = checkedProgram(qemu);
  const added = additions(qemuArgs);
  requireKvm();
  const disks = openDisks(options, qemuArgs, cleanup);
  const vifs = openVifs(options, cleanup);

  const dir = makeRunDir(options.name);
  const stdio = options.consoles.some(({ to }) => to === 'stdio');
  const logFile = options.consoles.find((each) => each.to === 'log');
  const xenstore = new Xenstore();
  const bridge = new NativeBridge({
    ownPages: OWN_PAGES,
    xenVersion: XEN_VERSION,
    log: (level, line) => (level >= 50 ? log.error({}, line) : level >= 40 ? log.warn({}, line)
      : level >= 30 ? log.info({}, line) : log.debug({}, line)),
  });
  cleanup.add(() => bridge.close());
  const size = guestSize(qemuArgs);
  const guest = new Guest({
    bridge,
    name: options.name,
    ...size,
    disks,
    vifs,
    console: {
      socket: dir.console,
      ...(stdio ? { terminal: { input: process.stdin, output: process.stdout } } : {}),
      ...(logFile === undefined ? {} : { log: logFile.file }),
    },
    xenstore,
    log,
  });
  let pid = 0;
  const control = await serveControl(dir.control, options.name,
    guestControl(guest, xenstore.client, () => ({ ...size, name: options.name, qemuPid: pid })));
  cleanup.add(() => removeRunDir(dir));
  cleanup.add(() => control.close());
  const socket = await serveSocket(xenstore, dir.xenstore);
  cleanup.add(() => socket.close());
  cleanup.add(() => guest.close());

  const process_ = startQemu(program, [...qemuArgs, ...added], bridge.pluginFd, !stdio);
  pid = process_.pid;
  native.closeFd(bridge.pluginFd);
  const stop = (): void => process_.terminate();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, stop);
    cleanup.add(() => void process.off(signal, stop));
  }
  void bridge.connected.then((capabilities) => {
    const names = Object.entries(KvmXenCap).filter(([, bit]) => (capabilities & bit) !== 0).map(([name]) => name);
    log.info({ qemu: pid, capabilities: names.join(' ') }, 'mode kvm-xen: KVM forwards hypercalls');
  });
  const connected = await Promise.race([
    bridge.connected.then(() => true),
    process_.exited.then(() => false),
    new Promise<boolean>((resolve) => setTimeout(() => resolve(false), HELLO_MS).unref()),
  ]);
  if (!connected) process_.terminate();
  const exit = await process_.exited;
  if (!connected && exit.code === 0) {
    throw new OperatorError('NO_PLUGIN', 'QEMU ended without ever creating a KVM machine',
      'check that the command starts a machine, not only prints something');
  }
  log.info({ code: exit.code, signal: exit.signal }, 'QEMU has ended');
  return exitStatus(exit);
}

function openDisks(options: RunOptions, qemuArgs: readonly string[], cleanup: Cleanup): DiskPart[] {
  return options.disks.map(({ file, readonly, cdrom }) => {
    const image = openImage(file, { readonly, sharedWithQemu: mentions(qemuArgs, file) });
    cleanup.add(() => image.close());
    // What is opened stays open over resets of the machine; a backend only borrows it.
    return { path: realpathSync(file), image: { ...image, close: () => {} }, readonly, cdrom };
  });
}

function openVifs(options: RunOptions, cleanup: Cleanup): VifPart[] {
  return options.vifs.map(({ tap, mac }) => {
    const link = openTap(tap);
    cleanup.add(() => link.close());
    return { link: { ...link, close: () => {} }, ...(mac === undefined ? {} : { mac }) };
  });
}

/** As a shell counts: a signal is 128 and its number. */
function exitStatus({ code, signal }: QemuExit): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}
