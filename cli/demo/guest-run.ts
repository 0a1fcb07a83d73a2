/** A guest under `xenshim run` beside a stock QEMU, with what a demo or a test needs around it. */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { withSbin } from '../../vm-images/process.js';
import { ask } from '../control/client.js';
import { bootArguments, bootFiles, type Boot } from './guest-boot.js';
import { GuestConsole } from './guest-console.js';
import { HostNetwork } from './host-network.js';
import { endedInTheLab } from './lost-guest.js';

export interface GuestRunOptions {
  readonly name: string;
  /** Folder with disk.img, vmlinuz and initrd. */
  readonly image: string;
  /** Left out: `kernel`. */
  readonly boot?: Boot;
  readonly machine: 'pc' | 'q35';
  readonly vcpus: number;
  /** MiB. */
  readonly memory: number;
  /** What follows the tap's name in --vif, with its comma. */
  readonly vifOptions?: string;
  /** For a kernel that QEMU loads. */
  readonly kernelArguments?: string;
  /** Further options of `xenshim run`. */
  readonly xenOptions?: readonly string[];
  /** Empty disks besides the root disk: xvdb and on. */
  readonly disks?: readonly EmptyDisk[];
}

export interface EmptyDisk {
  /** Name in the run's folder. */
  readonly file: string;
  readonly bytes: number;
  /** What follows the name in --disk, with its comma. */
  readonly options?: string;
}

export interface GuestExit {
  /** Exit status of `xenshim run`, which is QEMU's. */
  readonly status: number;
}

const xenshim = fileURLToPath(new URL('../../../cli/xenshim.mjs', import.meta.url));

export class GuestRun {
  readonly console: GuestConsole;
  /** Copy of the image that this run writes to. */
  readonly disk: string;
  readonly #process: ChildProcess;
  readonly #exited: Promise<GuestExit>;
  readonly #files: string[] = ['disk.img', 'run', 'xenshim.log', 'console.log', 'xenstore.txt', ...bootFiles];
  #running = true;
  /** When the log was last looked at, ms. */
  #lookedAt = 0;
  #fallen = false;

  private constructor(
    readonly options: GuestRunOptions,
    readonly work: string,
    readonly network: HostNetwork,
  ) {
    this.disk = join(work, 'disk.img');
    mkdirSync(this.runDir);
    execFileSync('cp', [join(options.image, 'disk.img'), this.disk]);
    for (const { file, bytes } of options.disks ?? []) this.makeFile(file, bytes);
    const log = openSync(this.log, 'a');
    const [program, ...args] = network.wrap([process.execPath, xenshim, ...this.#arguments()]);
    this.#process = spawn(program!, args, { stdio: ['ignore', log, log], env: this.environment });
    closeSync(log);
    this.#exited = new Promise((resolve) => {
      this.#process.once('exit', (status) => {
        this.#running = false;
        resolve({ status: status ?? 1 });
      });
    });
    this.console = new GuestConsole(join(this.runDir, options.name, 'console.sock'), () => this.#answers());
  }

  /** Starts the guest and its network. */
  static async start(options: GuestRunOptions): Promise<GuestRun> {
    const work = mkdtempSync(join(tmpdir(), 'xenshim-guest-'));
    const network = await HostNetwork.create(options.name);
    const run = new GuestRun(options, work, network);
    const peer = network.startPeer();
    while (!(await network.hasTap())) {
      if (!run.#running) {
        await run.close();
        throw new Error(`xenshim ended at once: ${run.lastLog()}`);
      }
      await sleep(200);
    }
    await network.configure();
    await peer;
    return run;
  }

  /** Where xenshim keeps the sockets of its guests during this run. */
  get runDir(): string {
    return join(this.work, 'run');
  }

  get log(): string {
    return join(this.work, 'xenshim.log');
  }

  /** What the guest printed on its PV console. */
  get consoleLog(): string {
    return join(this.work, 'console.log');
  }

  /** What firmware, boot loader and a PVH kernel write to the serial port. */
  get serialLog(): string {
    return join(this.work, 'serial.log');
  }

  /** What `saveXenstore` wrote. */
  get xenstoreDump(): string {
    return join(this.work, 'xenstore.txt');
  }

  /** What the vCPUs of a guest did that stopped answering. */
  get vcpuDump(): string {
    return join(this.work, 'vcpus.txt');
  }

  /** QEMU's monitor, to look into a guest that answers no more. */
  get monitor(): string {
    return join(this.work, 'monitor.sock');
  }

  get environment(): NodeJS.ProcessEnv {
    return { ...process.env, PATH: withSbin(process.env['PATH']), XENSHIM_RUNDIR: this.runDir };
  }

  /** A sparse file in the run's folder, where a disk of `bytes` may be; returns its path. */
  makeFile(file: string, bytes: number): string {
    const path = join(this.work, file);
    writeFileSync(path, '');
    truncateSync(path, bytes);
    this.#files.push(file);
    return path;
  }

  /** Another command of xenshim; what it prints, or an Error with what it says is wrong. */
  xenshim(...args: readonly string[]): string {
    const { status, stdout, stderr } = spawnSync(process.execPath, [...process.execArgv, xenshim, ...args],
      { env: this.environment, timeout: 60_000, encoding: 'utf8' });
    if (status !== 0) throw new Error(`xenshim ${args.join(' ')}: ${stderr.trim()}`);
    return stdout.trim();
  }

  /** Whether it is worth waiting for the guest: in the lab one that has had a triple fault starts all over. */
  #answers(): boolean {
    if (this.#running && Date.now() - this.#lookedAt > 1000) {
      this.#lookedAt = Date.now();
      this.#fallen ||= endedInTheLab(readFileSync(this.log, 'utf8')) !== undefined;
    }
    return this.#running && !this.#fallen;
  }

  /** Writes what the guest's xenstore holds to `xenstoreDump`; a guest that has ended leaves the last one. */
  async saveXenstore(): Promise<void> {
    if (!this.#running) return;
    const text = await ask(this.options.name, 'xenstore-ls', { path: '/' }).catch((error: unknown) => String(error));
    writeFileSync(this.xenstoreDump, `${String(text)}\n`);
  }

  /** `xenshim shutdown NAME`. */
  shutdown(): void {
    this.xenshim('shutdown', this.options.name);
  }

  /** Waits for QEMU and xenshim to end; undefined if they do not within `seconds`. */
  async ended(seconds: number): Promise<GuestExit | undefined> {
    const waiting = new AbortController();
    const tooLong = sleep(seconds * 1000, undefined, { signal: waiting.signal }).catch(() => undefined);
    const exit = await Promise.race([this.#exited, tooLong]);
    waiting.abort();
    return exit ?? undefined;
  }

  /** The last lines of xenshim's and QEMU's log. */
  lastLog(lines = 6): string {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8').trim().split('\n').slice(-lines).join(' | ') : '';
  }

  /** What a finished run must not leave: processes, its tap, sockets, files. Empty = clean. */
  async leftovers(): Promise<string[]> {
    const known = new Set(this.#files);
    const found = [
      ...processesNaming(this.work).map((pid) => `process ${pid}`),
      ...readdirSync(this.runDir).map((name) => `socket folder ${name}`),
      ...readdirSync(this.work).filter((name) => !known.has(name)).map((name) => `file ${name}`),
      ...readFileSync('/proc/net/unix', 'utf8').split('\n').filter((line) => line.includes(this.runDir)).map(() => 'socket'),
    ];
    if (await this.network.hasTap()) found.push(`tap ${this.network.tap}`);
    return found;
  }

  /** Ends whatever still runs and removes the run's files. */
  async close(): Promise<void> {
    this.console.disconnect();
    if (this.#running) {
      this.#process.kill('SIGTERM');
      if (!(await this.ended(20))) this.#process.kill('SIGKILL');
    }
    for (const pid of processesNaming(this.work)) process.kill(pid, 'SIGKILL');
    await this.network.close();
    rmSync(this.work, { recursive: true, force: true });
  }

  #arguments(): string[] {
    const { name, image, machine, vcpus, memory, boot = 'kernel', disks = [], vifOptions = '', xenOptions = [], kernelArguments } = this.options;
    const more = disks.flatMap(({ file, options = '' }) => ['--disk', join(this.work, file) + options]);
    return [
      'run', '--name', name, `--console=log:${this.consoleLog}`, '--disk', this.disk, ...more, '--vif', `tap=${this.network.tap}${vifOptions}`, ...xenOptions,
      '--', 'qemu-system-x86_64',
      '-machine', machine, '-cpu', 'host', '-smp', String(vcpus), '-m', String(memory), '-nodefaults', '-display', 'none',
      '-monitor', `unix:${this.monitor},server=on,wait=off`,
      ...bootArguments(boot, { image, disk: this.disk, work: this.work, ...(kernelArguments === undefined ? {} : { kernelArguments }) }),
    ];
  }
}

function processesNaming(text: string): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(text);
    } catch {
      return false; // it has just ended
    }
  }).map(Number);
}
