/** The threads of a vif: one for each queue its frontend uses, the first of them always; one for a control ring. */
import type { GuestHandles } from '../../shim/memory/attach.js';
import type { Log } from '../../shim/observe/log.js';
import { threadScript } from '../thread-scripts.js';
import { WorkerHost } from '../worker-host.js';
import type {
  ControlConnect, ControlRequest, ControlWorkerSettings, VifConnect, VifEvent, VifRequest, VifWorkerSettings,
} from './messages.js';
import { COUNTER_BYTES, readStats } from './stats.js';
import type { QueueStats } from './stats.js';

export interface VifQueuesOptions {
  readonly handles: GuestHandles;
  /** Begins the threads' names, e.g. `vif-1-0`. */
  readonly name: string;
  /** What the queues share (vif-memory.ts). */
  readonly memory: SharedArrayBuffer;
  readonly log: Log;
  told(queue: number, event: VifEvent): void;
  /** A thread died: its number in the grant table, if it got that far. */
  lost(thread: number | undefined): void;
}

/** A thread, and the number the grant table knows it by. */
class Thread {
  #number: number | undefined;
  readonly host: WorkerHost;

  constructor(options: VifQueuesOptions, script: 'vif' | 'vifControl', name: string, data: unknown, told: (event: VifEvent) => void) {
    this.host = new WorkerHost({
      script: threadScript(script),
      name,
      data,
      log: options.log,
      event: (event) => {
        const message = event as VifEvent;
        if (message.kind === 'attached') this.#number = message.thread;
        else told(message);
      },
      lost: () => {
        options.lost(this.#number);
      },
    });
  }
}

export class VifQueues {
  readonly #options: VifQueuesOptions;
  readonly #threads: Thread[] = [];
  /** Counters stay when their queue goes. */
  readonly #counters: SharedArrayBuffer[] = [];
  #control: Thread | undefined;
  /** Queues of the connection. */
  #connected = 0;

  constructor(options: VifQueuesOptions) {
    this.#options = options;
    this.#need(1);
  }

  /** By queue, those of earlier connections included. */
  stats(): QueueStats[] {
    return this.#counters.map((counters) => readStats(new Float64Array(counters)));
  }

  /** Begins all queues, or none. @throws XenError as openConnection and ControlRing do */
  async connect(queues: readonly VifConnect[], control: ControlConnect | undefined): Promise<void> {
    this.#need(queues.length);
    this.#connected = queues.length;
    const begun: Promise<unknown>[] = queues.map((connect, i) => this.#ask(i, { kind: 'connect', connect }));
    if (control !== undefined) begun.push(this.#connectControl(control));
    // All have to settle: one that is still at it would hold rings that are given up.
    const failed = (await Promise.allSettled(begun)).find((each) => each.status === 'rejected');
    if (failed === undefined) return;
    await this.disconnect();
    throw failed.reason;
  }

  /** Ends the connection in all queues; threads but the first end as well. */
  async disconnect(): Promise<void> {
    const control = this.#control?.host.close();
    this.#control = undefined;
    const queues = this.#threads.slice(0, this.#connected).map((_, i) => this.#ask(i, { kind: 'disconnect' }));
    this.#connected = 0;
    const outcomes = await Promise.allSettled([...queues, control]);
    await Promise.all(this.#threads.splice(1).map(({ host }) => host.close()));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /** Asks the queues of the connection; a queue that is just ending does not matter. */
  async tell(request: VifRequest): Promise<void> {
    await Promise.all(this.#threads.slice(0, this.#connected).map((_, i) => this.#ask(i, request)));
  }

  async remap(request: VifRequest & ControlRequest): Promise<void> {
    await Promise.all([
      ...this.#threads.map((_, i) => this.#ask(i, request)),
      this.#control?.host.call(request),
    ]);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#threads.map(({ host }) => host.close()), this.#control?.host.close()]);
  }

  #ask(queue: number, request: VifRequest): Promise<unknown> {
    return this.#threads[queue]!.host.call(request);
  }

  #need(count: number): void {
    const { handles, memory, name, told } = this.#options;
    for (let i = this.#threads.length; i < count; i++) {
      const counters = (this.#counters[i] ??= new SharedArrayBuffer(COUNTER_BYTES));
      const settings: VifWorkerSettings = { guest: handles, counters, memory };
      const threadName = i === 0 ? name : `${name}-q${i}`;
      this.#threads.push(new Thread(this.#options, 'vif', threadName, settings, (event) => {
        told(i, event);
      }));
    }
  }

  #connectControl(connect: ControlConnect): Promise<unknown> {
    const { handles, memory, name, told } = this.#options;
    const settings: ControlWorkerSettings = { guest: handles, memory };
    this.#control = new Thread(this.#options, 'vifControl', `${name}-ctrl`, settings, (event) => {
      told(-1, event);
    });
    return this.#control.host.call({ kind: 'connect', connect } satisfies ControlRequest);
  }
}
