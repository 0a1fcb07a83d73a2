/**
 * A `qemu-storage-daemon` of one disk, which knows image formats and network storage: started, watched, started again
 * when it dies. The socket it serves is ours and outlives it, so that whoever is connected needs to know nothing but the
 * way to connect again.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Duplex } from 'node:stream';

import { openMeeting } from '../../../shim/io/unix-stream.js';
import type { Meeting } from '../../../shim/io/unix-stream.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import type { Log } from '../../../shim/observe/log.js';
import { Qmp } from './qmp.js';
import type { BlockNode } from './storage-uri.js';

const PROGRAM = 'qemu-storage-daemon';
/** Name of the exported node, where the operator's own has none. */
const NODE = 'disk';
/** Descriptors in the daemon. */
const MONITOR_FD = 3;
const LISTEN_FD = 4;
/** ms between a death and the next start: doubled each time, and forgotten after a life of `SETTLED`. */
const FIRST_DELAY = 100;
const LONGEST_DELAY = 10_000;
const SETTLED = 10_000;
/** ms the daemon gets to write everything out and end. */
const EXIT_GRACE = 10_000;
const KEPT_WORDS = 4000;

/** Daemons that run, for the case that this process ends without closing them. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGTERM');
});

export interface StorageDaemonOptions {
  /** What the operator called the disk, for messages. */
  readonly name: string;
  readonly node: BlockNode;
  readonly readonly: boolean;
  /** Every write is durable before it is answered. */
  readonly writethrough: boolean;
  readonly sectorSize: number;
  readonly queues: number;
  readonly log: Log;
}

/** BlockDeviceInfo of QEMU's QAPI schema, as far as it is of use. */
interface NamedNode {
  readonly 'node-name': string;
  readonly image: { readonly 'virtual-size': number; readonly 'cluster-size'?: number };
}

export class StorageDaemon {
  /** Where it is met. */
  readonly meeting: Meeting = openMeeting();
  #child: ChildProcess | undefined;
  #qmp: Qmp | undefined;
  #closing: Promise<void> | undefined;
  #delay = FIRST_DELAY;
  #restart: NodeJS.Timeout | undefined;
  /** Why the last start failed, so that it is said once. */
  #reason = '';

  private constructor(private readonly options: StorageDaemonOptions) {}

  /** @throws OperatorError NO_STORAGE_DAEMON, DISK_LOCKED, DISK_STORAGE with QEMU's own words */
  static async open(options: StorageDaemonOptions): Promise<StorageDaemon> {
    const daemon = new StorageDaemon(options);
    try {
      await daemon.#start();
      return daemon;
    } catch (error) {
      await daemon.close();
      throw error;
    }
  }

  /** 0 while there is none. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Bytes the disk is to have. @throws Error with QEMU's own words, or when there is no daemon just now */
  async resize(bytes: number): Promise<void> {
    await this.#execute('block_resize', { 'node-name': this.#node, size: bytes });
  }

  /** Size in bytes, and that of a cluster where the format has clusters. */
  async geometry(): Promise<{ readonly bytes: number; readonly cluster: number | undefined }> {
    const nodes = (await this.#execute('query-named-block-nodes', { flat: true })) as NamedNode[];
    const image = nodes.find((node) => node['node-name'] === this.#node)?.image;
    if (image === undefined) throw new Error('the storage daemon does not know its own disk');
    return { bytes: image['virtual-size'], cluster: image['cluster-size'] };
  }

  /** Ends it on the spot; it is started again, and nothing of the guest's is in its hands any more. */
  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  /** Ends it, with everything written out. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  get #node(): string {
    const name = this.options.node['node-name'];
    return typeof name === 'string' ? name : NODE;
  }

  #execute(command: string, args: object): Promise<unknown> {
    return this.#qmp?.execute(command, args) ?? Promise.reject(new Error('the storage daemon is not running'));
  }

  async #end(): Promise<void> {
    clearTimeout(this.#restart);
    const child = this.#child;
    if (child !== undefined) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const grace = setTimeout(() => child.kill('SIGKILL'), EXIT_GRACE);
      await ended;
      clearTimeout(grace);
    }
    this.meeting.close();
  }

  /** Resolves when everything is open and served. */
  async #start(): Promise<void> {
    const { log } = this.options;
    const [first, ...rest] = command();
    const child = spawn(first, [...rest, ...this.#arguments()], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', this.meeting.listenFd],
      // A session of its own: Ctrl-C at our terminal is for QEMU and us.
      detached: true,
    });
    const started = Date.now();
    let said = '';
    let ready = false;
    child.stderr!.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-KEPT_WORDS);
      if (ready) for (const line of chunk.toString().trimEnd().split('\n')) log.warn({}, `storage daemon: ${line}`);
    });
    const ended = new Promise<never>((_resolve, reject) => {
      child.once('error', (error) => {
        reject(new OperatorError('NO_STORAGE_DAEMON', `${PROGRAM} cannot be started (${error.message})`, 'check the program', 3));
      });
      // 'close' and not 'exit': its last words are in by then.
      child.once('close', () => {
        reject(this.#refusal(said));
      });
    });
    ended.catch(() => {});
    child.once('spawn', () => running.add(child));
    child.once('exit', (code, signal) => {
      running.delete(child);
      if (this.#child !== child) return;
      this.#child = this.#qmp = undefined;
      if (this.#closing === undefined && ready) this.#died(code, signal, Date.now() - started);
    });
    this.#child = child;
    const qmp = new Qmp(child.stdio[MONITOR_FD] as Duplex);
    // Answered from the main loop, which begins after every node and export of the command line is there.
    await Promise.race([qmp.execute('qmp_capabilities'), ended]).catch(() => ended);
    this.#qmp = qmp;
    ready = true;
    log.debug({ pid: child.pid }, `storage daemon serves ${this.options.name}`);
  }

  #arguments(): string[] {
    const { node, readonly, writethrough, queues, sectorSize } = this.options;
    const disk = { 'node-name': NODE, 'read-only': readonly, discard: readonly ? 'ignore' : 'unmap', ...node };
    const exported = {
      type: 'vhost-user-blk',
      id: 'guest',
      'node-name': this.#node,
      addr: { type: 'fd', str: String(LISTEN_FD) },
      writable: !readonly,
      writethrough,
      'logical-block-size': sectorSize,
      'num-queues': queues,
    };
    return [
      '--chardev', `socket,id=monitor,fd=${MONITOR_FD}`,
      '--monitor', 'chardev=monitor',
      '--blockdev', JSON.stringify(disk),
      '--export', JSON.stringify(exported),
    ];
  }

  #died(code: number | null, signal: string | null, lived: number): void {
    if (lived > SETTLED) this.#delay = FIRST_DELAY;
    const how = signal ?? `status ${code}`;
    this.options.log.warn({ how, delay: this.#delay }, `the storage daemon of ${this.options.name} ended (${how}); it is started again`);
    this.#again();
  }

  #again(): void {
    this.#restart = setTimeout(() => {
      this.#start().then(
        () => {
          this.#reason = '';
          this.options.log.info({ pid: this.pid }, `the storage daemon of ${this.options.name} runs again`);
        },
        (error: unknown) => {
          if (this.#closing !== undefined) return;
          const reason = (error as Error).message;
          if (reason !== this.#reason) this.options.log.error({}, `${reason}; tried again and again`);
          this.#reason = reason;
          this.#again();
        },
      );
    }, this.#delay);
    this.#delay = Math.min(2 * this.#delay, LONGEST_DELAY);
  }

  /** QEMU's last line, without the program's name and our own arguments in it. */
  #refusal(said: string): OperatorError {
    const last = said.trimEnd().split('\n').at(-1) ?? '';
    const text = last.replace(/^.*?qemu-storage-daemon: (--(blockdev|export) \{.*\}: )?/, '') || 'it said nothing';
    if (/lock/.test(text)) {
      return new OperatorError('DISK_LOCKED', `disk ${this.options.name} is in use by another virtual machine or tool`,
        'stop the other user of the image');
    }
    return new OperatorError('DISK_STORAGE', `disk ${this.options.name} cannot be opened: ${text}`,
      'check the image, its format and its server');
  }
}

/** The daemon, tied to our life: the kernel ends it when we are gone, however that came. @throws OperatorError */
function command(): [string, ...string[]] {
  for (const [program, line] of [
    [PROGRAM, 'apt-get install qemu-utils qemu-system-common'],
    ['setpriv', 'apt-get install util-linux'],
  ] as const) {
    if (!onPath(program)) {
      throw new OperatorError('NO_STORAGE_DAEMON', `${program} is not installed, which disks other than raw ones need`,
        `run \`${line}\``, 3);
    }
  }
  return ['setpriv', '--pdeathsig', 'TERM', PROGRAM];
}

function onPath(name: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
