/** The guest's memory, the event channels and the tap that all programs of the benchmark share, and how they are run. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

import { openTap } from '../../../backends/net/tap.js';
import type { TapLink } from '../../../backends/net/tap.js';
import { native } from '../../../kvm/native.js';
import { createGrantState } from '../../../shim/grant-table/state.js';
import { attachGuest } from '../../../shim/memory/attach.js';
import type { GuestHandles } from '../../../shim/memory/attach.js';
import type { NetCase } from './cases.js';

/** As native/common.h has them. */
const RAM_PAGES = 16_384;
const FIRST_GRANT_PAGE = 2;
const GRANT_PAGES = 12;
const OWN_PAGES = FIRST_GRANT_PAGE + 16;

/** What one run of a program says. */
export interface Measured {
  /** Frames, or exchanges, a second. */
  readonly rate: number;
  /** CPU time per frame of whoever moved them, ns. */
  readonly cpuNs: number;
  /** CPU time over time. */
  readonly cpuShare: number;
}

export class Place {
  readonly tap: TapLink;
  readonly handles: GuestHandles;
  readonly kickFd = native.eventfd();
  readonly callFd = native.eventfd();

  constructor(
    readonly program: string,
    readonly backendCore: number,
    readonly loadCore: number,
    readonly seconds: number,
  ) {
    this.tap = openTap('tap0');
    this.handles = {
      ram: [{ fd: native.memfd('netbench-ram', RAM_PAGES * 4096), offset: 0, gfn: 0, pages: RAM_PAGES }],
      own: { fd: native.memfd('netbench-own', OWN_PAGES * 4096), pages: OWN_PAGES },
      grants: createGrantState({ maxFrames: 16, maxMaptrackFrames: 64, ownPages: OWN_PAGES, firstOwnPage: FIRST_GRANT_PAGE }),
      domid: 1,
    };
    const guest = attachGuest(this.handles);
    guest.grantTable.growTo(GRANT_PAGES);
    guest.detach();
  }

  /** Starts a part of the native program on a core. */
  start(part: string, core: number, test: NetCase, more: readonly string[] = []): Program {
    const options = ['--cpu', core, '--bytes', test.bytes, '--frames', test.frames, '--seconds', this.seconds, ...more];
    const child = spawn(this.program, [...options.map(String), ...(test.gso ? ['--gso'] : []), part], {
      stdio: ['pipe', 'pipe', 'inherit', this.handles.ram[0]!.fd, this.handles.own.fd, this.kickFd, this.callFd, this.tap.fd],
    });
    return new Program(part, child);
  }
}

/** A running part: says "ready" if it has a frontend's or a backend's role, and its result as its last line. */
export class Program {
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<number | null>;

  constructor(
    private readonly part: string,
    private readonly child: ChildProcess,
  ) {
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    this.#ended = new Promise((resolve) => child.on('close', resolve));
  }

  get pid(): number {
    return this.child.pid!;
  }

  async ready(): Promise<void> {
    if ((await this.#line()) !== 'ready') throw new Error(`${this.part} does not begin`);
  }

  go(): void {
    this.child.stdin!.write('go\n');
  }

  async result(): Promise<Measured> {
    const result = JSON.parse(await this.#line()) as Measured;
    if ((await this.#ended) !== 0) throw new Error(`${this.part} failed`);
    return result;
  }

  async stop(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#ended;
  }

  async ended(): Promise<void> {
    await this.#ended;
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`${this.part} ended early`);
    return value;
  }
}
