/** A domain over a fake bridge, and a guest's kernel to drive it: structures written to RAM, hypercalls issued. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { Errno } from '../../shim/abi/errno.js';
import type { DomainConfig } from '../../shim/domain/config.js';
import { Domain } from '../../shim/domain/domain.js';
import { Dispatcher } from '../../shim/hypercall/dispatch.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import type { Log } from '../../shim/observe/log.js';
import { FakeBridge, type FakeBridgeOptions, type IssueOptions } from './fake-bridge.js';

export interface LogLine {
  readonly level: string;
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export interface GuestOptions extends FakeBridgeOptions {
  readonly config?: Partial<DomainConfig>;
}

/** Where the guest keeps arguments: page 8 upwards. */
const ARGUMENTS = 8 * PAGE_SIZE;

export class Guest {
  readonly bridge: FakeBridge;
  readonly domain: Domain;
  readonly dispatcher: Dispatcher;
  readonly lines: LogLine[] = [];
  /** Width of the next calls. */
  longMode = true;

  constructor(options: GuestOptions = {}) {
    this.bridge = new FakeBridge(options);
    const level =
      (name: string) =>
      (fields: object, message: string): void => {
        this.lines.push({ level: name, fields: fields as Record<string, unknown>, message });
      };
    const log: Log = {
      trace: level('trace'),
      debug: level('debug'),
      info: level('info'),
      warn: level('warn'),
      error: level('error'),
      child: () => log,
    };
    this.domain = new Domain({ bridge: this.bridge, config: { name: 'test', ...options.config }, log });
    this.dispatcher = new Dispatcher(this.domain);
    this.bridge.listen({
      hypercall: (exit) => this.dispatcher.dispatch(exit),
      reset: () => {
        this.dispatcher.reset();
        return this.domain.reset();
      },
      ramChanged: () => this.domain.ramChanged(),
      closed: () => this.domain.close(),
    });
  }

  /** Ends the guest with the test. */
  endWith(t: ExecutionContext): this {
    t.teardown(() => {
      // First the kernel's side, which watches descriptors that the domain closes.
      this.bridge.close();
      this.domain.close();
    });
    return this;
  }

  /** A view of guest-physical memory, which must lie in one page. */
  at(gpa: number): DataView {
    const place = this.bridge.locate(Math.floor(gpa / PAGE_SIZE));
    if (place === undefined) throw new Error(`no memory at ${gpa.toString(16)}`);
    return new DataView(place.u8.buffer, place.at + (gpa % PAGE_SIZE));
  }

  /** Writes an argument structure: `[offset, bytes, value]` each; returns its address. */
  argument(fields: readonly (readonly [at: number, size: 1 | 2 | 4 | 8, value: number | bigint])[], slot = 0): number {
    const gpa = ARGUMENTS + slot * 256;
    const view = this.at(gpa);
    for (let i = 0; i < 256; i += 8) view.setBigUint64(i, 0n, true);
    for (const [at, size, value] of fields) {
      const bits = BigInt.asUintN(size * 8, BigInt(value));
      for (let i = 0; i < size; i++) view.setUint8(at + i, Number((bits >> BigInt(8 * i)) & 0xffn));
    }
    return gpa;
  }

  /** A hypercall answered at once. */
  call(nr: number, args: readonly (number | bigint)[], options: IssueOptions = {}): number {
    return this.bridge.call(nr, args, { longMode: this.longMode, ...options });
  }

  /** A hypercall that may take its time. */
  issue(nr: number, args: readonly (number | bigint)[], options: IssueOptions = {}): Promise<number> {
    return this.bridge.issue(nr, args, { longMode: this.longMode, ...options });
  }
}

/** `-EINVAL` and so on, for messages that can be read. */
export function errnoName(result: number): string {
  const name = Object.entries(Errno).find(([, value]) => value === -result)?.[0];
  return name === undefined ? String(result) : `-${name}`;
}

/** Waits for something the event loop has yet to do; true as soon as it is, false when it takes too long. */
export async function eventually(condition: () => boolean, ms = 5000): Promise<boolean> {
  for (const until = performance.now() + ms; performance.now() < until; await sleep(1)) if (condition()) return true;
  return condition();
}
