/**
 * One guest image under one of two: xenshim beside a stock QEMU, or QEMU's own Xen mode. Machine, CPUs, memory, kernel,
 * disks, tap and console are the same; only who plays Xen differs.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { GuestConsole } from '../../../cli/demo/guest-console.js';
import { lostByTheLab, vcpuStates } from '../../../cli/demo/lost-guest.js';
import { HostNetwork } from '../../../cli/demo/host-network.js';
import { withSbin } from '../../../vm-images/process.js';

export const SIDES = ['ours', 'peer'] as const;
export type Side = (typeof SIDES)[number];

export interface BenchGuestOptions {
  readonly side: Side;
  /** Folder with disk.img, vmlinuz and initrd. */
  readonly image: string;
  /** Folder of this guest's own, made here. */
  readonly work: string;
  /** xvdb, a file of this guest's own. */
  readonly data?: string;
  readonly vcpus: number;
  /** MiB. */
  readonly memory: number;
  /** Further options of Node for xenshim. */
  readonly nodeOptions?: readonly string[];
  /** What follows the disk's name in --disk, with its comma. */
  readonly diskOptions?: string;
}

/** Where copies of images fit: a lab host's own disk is small, the one with the guests' images has room for them. */
export const roomyFolder = (): string => process.env['XENSHIM_IMAGES'] ?? tmpdir();

const xenshim = fileURLToPath(new URL('../../../../cli/xenshim.mjs', import.meta.url));

export class BenchGuest {
  readonly console: GuestConsole;
  /** When its command was started, ms of `performance.now`. */
  readonly startedAt: number;
  readonly #process: ChildProcess;
  #running = true;

  private constructor(
    readonly options: BenchGuestOptions,
    readonly network: HostNetwork,
  ) {
    const { side, work } = options;
    const log = openSync(this.log, 'a');
    const [program, ...args] = network.wrap(side === 'ours' ? this.#ourCommand() : this.#peerCommand());
    this.startedAt = performance.now();
    this.#process = spawn(program!, args, { stdio: ['ignore', log, log], env: this.environment });
    closeSync(log);
    this.#process.once('exit', () => {
      this.#running = false;
    });
    const socket = side === 'ours' ? join(this.runDir, this.name, 'console.sock') : join(work, 'console.sock');
    this.console = new GuestConsole(socket, () => this.#running);
  }

  /** Starts the guest on a copy of its image. Its tap may come later, see `connected`. */
  static async start(options: BenchGuestOptions): Promise<BenchGuest> {
    mkdirSync(join(options.work, 'run'), { recursive: true });
    execFileSync('cp', ['--sparse=always', join(options.image, 'disk.img'), join(options.work, 'root.img')]);
    const network = await HostNetwork.create(`xsb${options.side}`);
    if (options.side === 'peer') await network.ip('tuntap', 'add', network.tap, 'mode', 'tap', 'vnet_hdr');
    return new BenchGuest(options, network);
  }

  get name(): string {
    return `xsb${this.options.side}`;
  }

  get runDir(): string {
    return join(this.options.work, 'run');
  }

  get log(): string {
    return join(this.options.work, 'log');
  }

  /** QEMU's monitor. */
  get monitor(): string {
    return join(this.options.work, 'monitor.sock');
  }

  get environment(): NodeJS.ProcessEnv {
    return { ...process.env, PATH: withSbin(process.env['PATH']), XENSHIM_RUNDIR: this.runDir };
  }

  /** The processes at work: QEMU, and xenshim where there is one. */
  get pids(): { readonly xenshim?: number; readonly qemu: number } {
    // `ip netns exec` becomes the program it is given.
    const pid = this.#process.pid!;
    if (this.options.side === 'peer') return { qemu: pid };
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
    const qemu = children.find((child) => readFileSync(`/proc/${child}/comm`, 'utf8').startsWith('qemu-system'));
    return { xenshim: pid, qemu: qemu ?? pid };
  }

  /** Waits for the tap and gives it the host's address. */
  async connected(): Promise<void> {
    while (!(await this.network.hasTap())) {
      if (!this.#running) throw new Error(`the guest (${this.options.side}) ended at once: ${this.lastLog()}`);
      await sleep(500);
    }
    await this.network.configure();
  }

  lastLog(): string {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8').trim().split('\n').slice(-6).join(' | ') : '';
  }

  /** Where the vCPUs of a guest are that does not get on. */
  async stuckAt(): Promise<string> {
    const states = await vcpuStates(this.monitor);
    const lines = states.split('\n').filter((line) => /^CPU#|RIP|RSP|IRR|ISR/.test(line));
    return [...lines, `these registers are the ${lostByTheLab(states) ? "lab host's" : "guest's own"}`].join('\n');
  }

  async close(): Promise<void> {
    this.console.disconnect();
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      if (this.#running) this.#process.kill(signal);
      for (let tries = 0; tries < 100 && this.#running; tries++) await sleep(100);
    }
    await this.network.close();
  }

  #ourCommand(): string[] {
    const { work, data, nodeOptions = [], diskOptions = '' } = this.options;
    const disks = [join(work, 'root.img'), ...(data === undefined ? [] : [data])].flatMap((file) => ['--disk', file + diskOptions]);
    return [
      process.execPath, ...nodeOptions, xenshim, 'run', '--name', this.name, ...disks, '--vif', `tap=${this.network.tap}`,
      '--', ...this.#machine('host', []),
    ];
  }

  #peerCommand(): string[] {
    const { work, data } = this.options;
    const disks = [join(work, 'root.img'), ...(data === undefined ? [] : [data])].flatMap((file, index) => [
      '-drive', `file=${file},format=raw,if=none,id=disk${index}`,
      '-device', `xen-disk,drive=disk${index},vdev=xvd${'ab'[index]!}`,
    ]);
    return this.#machine('host,+xen-vapic', [
      '-accel', 'kvm,xen-version=0x40011,kernel-irqchip=split', ...disks,
      '-netdev', `tap,id=net,ifname=${this.network.tap},script=no,downscript=no`, '-device', 'xen-net-device,netdev=net',
      '-chardev', `socket,id=console,path=${join(work, 'console.sock')},server=on,wait=off`,
      '-device', 'xen-console,chardev=console',
    ]);
  }

  #machine(cpu: string, devices: readonly string[]): string[] {
    const { image, vcpus, memory } = this.options;
    const lab = process.env['XENSHIM_LAB'] === undefined ? '' : ' no_timer_check';
    return [
      'qemu-system-x86_64', '-machine', 'q35', '-cpu', cpu, '-smp', String(vcpus), '-m', String(memory), '-nodefaults',
      '-display', 'none', '-monitor', `unix:${this.monitor},server=on,wait=off`,
      '-kernel', join(image, 'vmlinuz'), '-initrd', join(image, 'initrd'),
      '-append', `root=/dev/xvda ro console=hvc0 quiet${lab}`, ...devices,
    ];
  }
}
