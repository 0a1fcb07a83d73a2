/** The process of guest.cc with a pager on it. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { closeSync, constants, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RamRange, RamWatch } from '../../../kvm/bridge.js';
import { native } from '../../../kvm/native.js';
import { createFrames, Frames, type FrameHandles } from '../../../shim/memory/frames.js';
import { PAGE_SIZE, ramWindow, type RamWindow } from '../../../shim/memory/guest-memory.js';
import { Pager } from '../../../shim/memory/pager.js';
import type { Log } from '../../../shim/observe/log.js';
import { silentLog } from '../../../shim/observe/log.js';

/** The tree the sources are in: this file runs from dist/test/kvm/pager. */
const root = fileURLToPath(new URL('../../../../', import.meta.url));

/** Frame number of the first page: the pager leaves the first MiB alone. */
export const FIRST = 256;

/** A program built from a source of test/kvm/pager, in a folder that goes with the process. */
export function build(source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'xenshim-pager-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, 'program');
  execFileSync('c++', ['-std=gnu++20', '-O1', '-pthread', `-I${root}kvm`, '-o', program, `${root}test/kvm/pager/${source}`], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return program;
}

/** Why there is no pager here, or undefined. */
export function unavailable(program: () => string): string | undefined {
  try {
    execFileSync('c++', ['--version'], { stdio: 'ignore' });
  } catch {
    return 'no c++: install g++';
  }
  const memfd = native.memfd('probe', PAGE_SIZE);
  const [ours, theirs] = native.channelPair();
  try {
    execFileSync(program(), { input: '', stdio: ['pipe', 'pipe', 'inherit', theirs, memfd] });
    return undefined;
  } catch (error) {
    return String((error as { stdout?: Buffer }).stdout ?? error).trim();
  } finally {
    for (const fd of [memfd, ours, theirs]) native.closeFd(fd);
  }
}

/** Starts the process on a memfd; its userfaultfd, and where it has mapped the file. */
export function startProcess(program: string, memfd: number, bytes: number): { child: ChildProcess; watch: RamWatch } {
  const [ours, theirs] = native.channelPair();
  const child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit', theirs, memfd] });
  native.closeFd(theirs);
  const message = new Uint8Array(8);
  const fd = native.channelReceive(ours, message, 10_000);
  native.closeFd(ours);
  if (typeof fd !== 'number') throw new Error('the guest process sent no userfaultfd');
  const hva = Number(new DataView(message.buffer).getBigUint64(0, true));
  return { child, watch: { fd, mappings: [{ fd: memfd, offset: 0, hva, length: bytes }] } };
}

export interface PagedGuestOptions {
  readonly pages: number;
  /** Pages that stay. */
  readonly resident: number;
  /** Path of the page file; default one that goes away. */
  readonly file?: string;
  /** Every write to the page file waits for the disk. */
  readonly slow?: boolean;
  readonly log?: Log;
  /** No pager is started. */
  readonly bare?: boolean;
}

export class PagedGuest {
  readonly ram: RamRange[];
  readonly handles: FrameHandles;
  readonly frames: Frames;
  readonly window: RamWindow;
  readonly memfd: number;
  /** Descriptor of the page file. */
  file = -1;
  pager!: Pager;
  failures = 0;
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(program: string, readonly options: PagedGuestOptions) {
    const { pages } = options;
    this.memfd = native.memfd('paged-guest', pages * PAGE_SIZE);
    this.ram = [{ fd: this.memfd, offset: 0, gfn: FIRST, pages }];
    this.handles = createFrames(FIRST + pages);
    this.frames = new Frames(this.handles);
    this.frames.layout(this.ram);
    const { buffer, hva } = native.mapShared(this.memfd, 0, pages * PAGE_SIZE, 0);
    this.window = ramWindow(FIRST, buffer, hva);
    const { child, watch } = startProcess(program, this.memfd, pages * PAGE_SIZE);
    this.#child = child;
    this.#watch = watch;
    this.#answers = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  readonly #watch: RamWatch;

  static start(program: string, options: PagedGuestOptions): PagedGuest {
    const guest = new PagedGuest(program, options);
    guest.frames.count([]);
    if (options.bare !== true) guest.attach();
    return guest;
  }

  attach(): void {
    const folder = mkdtempSync(join(tmpdir(), 'xenshim-page-file-'));
    const { file, slow } = this.options;
    const flags = constants.O_RDWR | (file === undefined ? constants.O_CREAT : 0) | (slow === true ? constants.O_SYNC : 0);
    this.file = openSync(file ?? join(folder, 'pages'), flags);
    rmSync(folder, { recursive: true });
    this.pager = new Pager({
      frames: this.frames,
      handles: this.handles,
      ram: this.ram,
      watch: this.#watch,
      file: this.file,
      maxResident: this.options.resident * PAGE_SIZE,
      log: this.options.log ?? silentLog,
      failed: () => this.failures++,
    });
  }

  /** Has the process do something; its answer is `ok` or what is wrong. */
  async tell(what: 'fill' | 'check' | 'zero' | 'syscall' | 'work' | 'hammer' | 'time', a: number, b: number): Promise<string> {
    this.#child.stdin!.write(`${what} ${a} ${b}\n`);
    const { value } = (await this.#answers.next()) as { value: string };
    return value;
  }

  /** Host memory the guest's RAM takes, pages. */
  get hostPages(): number {
    return (fstatSync(this.memfd).blocks * 512) / PAGE_SIZE;
  }

  async end(): Promise<void> {
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await exited;
    if (this.options.bare === true && this.file < 0) native.closeFd(this.#watch.fd);
    this.pager?.close();
    if (this.file >= 0) closeSync(this.file);
    this.frames.unmap();
    native.unmap(this.window.hva, this.window.u8.length);
    for (const fd of [this.memfd, this.handles.fd, this.handles.bell]) native.closeFd(fd);
  }
}
