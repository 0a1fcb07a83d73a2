/** A vif's thread as the main thread sees it: one connection at a time. */
import { Worker } from 'node:worker_threads';
import { closeFd, createEventfd, signalEventfd } from '../../shim/io/eventfd.js';
import type { GuestHandles } from '../../shim/memory/attach.js';
import { XenError } from '../../shim/observe/errors.js';
import { Control, createControl } from './control.js';
import type { FromVifWorker, ToVifWorker, VifConnect, VifWorkerData } from './messages.js';
import type { Rate } from './rate.js';
import { COUNTER_BYTES, readStats } from './stats.js';
import type { QueueStats } from './stats.js';
import type { VifReport } from './vif-loop.js';

interface Waiter<T> {
  resolve(value: T): void;
  reject(reason: Error): void;
}

export class VifWorker {
  readonly #worker: Worker;
  readonly #counters = new SharedArrayBuffer(COUNTER_BYTES);
  #bellFd = createEventfd();
  readonly #exited: Promise<void>;
  #control: Control | undefined;
  #connecting: Waiter<void> | undefined;
  #stopping: Waiter<void> | undefined;
  #failure: Error | undefined;

  constructor(
    handles: GuestHandles,
    readonly report: (report: VifReport) => void,
    /** The thread has died of a bug of ours. */
    readonly failed: (error: Error) => void,
  ) {
    const workerData: VifWorkerData = { handles, counters: this.#counters };
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), { workerData, name: 'vif' });
    this.#worker.on('message', (message: FromVifWorker) => {
      this.#received(message);
    });
    this.#worker.on('error', (error: Error) => {
      this.#died(error);
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        this.#died(new Error('vif worker has ended'));
        resolve();
      });
    });
  }

  get connected(): boolean {
    return this.#control !== undefined;
  }

  stats(): QueueStats {
    return readStats(new Float64Array(this.#counters));
  }

  /** @throws XenError when the frontend's rings cannot be attached */
  connect(params: Omit<VifConnect, 'kind' | 'control' | 'bellFd'>): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const control = createControl();
    this.#control = new Control(control);
    return new Promise((resolve, reject) => {
      this.#connecting = { resolve, reject };
      this.#tell({ ...params, kind: 'connect', control, bellFd: this.#bellFd });
    });
  }

  setRate(rate: Rate): void {
    this.#control?.setRate(rate);
    signalEventfd(this.#bellFd);
  }

  /** Ends the connection; resolves when the thread no longer uses anything of it. Harmless without one. */
  disconnect(): Promise<void> {
    const control = this.#control;
    if (control === undefined || this.#failure !== undefined) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#stopping = { resolve, reject };
      control.stop();
      signalEventfd(this.#bellFd);
    });
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    await this.disconnect();
    if (this.#failure === undefined) {
      this.#failure = new Error('vif worker is closed');
      this.#tell({ kind: 'close' });
    }
    await this.#exited;
    if (this.#bellFd >= 0) closeFd(this.#bellFd);
    this.#bellFd = -1;
  }

  #tell(message: ToVifWorker): void {
    this.#worker.postMessage(message);
  }

  #received(message: FromVifWorker): void {
    switch (message.kind) {
      case 'connected':
        this.#connecting?.resolve();
        this.#connecting = undefined;
        break;
      case 'refused':
        this.#control = undefined;
        this.#connecting?.reject(new XenError(message.errno, message.text));
        this.#connecting = undefined;
        // Somebody may have given the connection up before it was made.
        this.#stopping?.resolve();
        this.#stopping = undefined;
        break;
      case 'stopped':
        this.#control = undefined;
        this.#stopping?.resolve();
        this.#stopping = undefined;
        break;
      default:
        this.report(message);
    }
  }

  #died(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#control = undefined;
    this.#connecting?.reject(error);
    this.#stopping?.resolve();
    this.failed(error);
  }
}
