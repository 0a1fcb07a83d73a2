/**
 * A backend's worker thread: one device each, asked from the main thread. The worker usually sleeps in a system call of
 * its own, where no message reaches it, so a request also sets a word and rings a bell that its loop watches.
 */
import { parentPort, Worker, workerData } from 'node:worker_threads';

import './inlining.js';
import { closeFd, createEventfd, drainEventfd, signalEventfd } from '../shim/io/eventfd.js';
import type { Patience } from '../shim/grant-table/settle.js';
import { XenError } from '../shim/observe/errors.js';
import type { Log } from '../shim/observe/log.js';

/** ms a worker gets to end by itself. */
const EXIT_GRACE = 5000;

/** ms a worker that is wanted goes on waiting for a page of the guest. */
const PAGE_GRACE = 1000;

/** Values of the shared word. Exiting stays: the loop must not go back to sleep. */
const Wanted = Object.freeze({ NOTHING: 0, MESSAGE: 1, EXITING: 2 } as const);

/**
 * Hosts whose threads run. When the process exits, Node waits for every worker, and nothing but its bell ends a worker's
 * system call.
 */
const running = new Set<WorkerHost>();
process.on('exit', () => {
  for (const host of running) host.abandon();
});

interface Seed {
  readonly controlFd: number;
  readonly wanted: SharedArrayBuffer;
  readonly data: unknown;
}

type ToWorker = { readonly id: number; readonly request: unknown } | { readonly exit: true };

type FromWorker =
  | { readonly id: number; readonly reply: unknown }
  | { readonly id: number; readonly errno: number | undefined; readonly text: string }
  | { readonly event: unknown }
  | { readonly warning: string };

export interface WorkerHostOptions {
  /** Compiled script that calls `serveWorker`. */
  readonly script: URL;
  /** Thread name and log field. */
  readonly name: string;
  /** Given to the service; structured-clonable. */
  readonly data: unknown;
  readonly log: Log;
  /** What the service emits by itself. */
  event?(event: unknown): void;
  /** The thread ended without being asked to: our own bug. */
  lost?(error: Error): void;
}

/** The main thread's side. */
export class WorkerHost {
  readonly #worker: Worker;
  readonly #controlFd = createEventfd();
  readonly #wanted = new Int32Array(new SharedArrayBuffer(4));
  readonly #calls = new Map<number, { resolve: (reply: unknown) => void; reject: (error: Error) => void }>();
  readonly #exited: Promise<void>;
  #nextId = 0;
  #closing: Promise<void> | undefined;

  constructor(options: WorkerHostOptions) {
    const seed: Seed = {
      controlFd: this.#controlFd,
      wanted: this.#wanted.buffer as SharedArrayBuffer,
      data: options.data,
    };
    this.#worker = new Worker(options.script, { workerData: seed, name: options.name });
    let failure = new Error('worker thread ended');
    this.#worker.on('message', (message: FromWorker) => {
      if ('event' in message) options.event?.(message.event);
      else if ('warning' in message) options.log.warn({ worker: options.name }, message.warning);
      else this.#settle(message);
    });
    this.#worker.on('error', (error: Error) => {
      failure = error;
      options.log.error({ worker: options.name, err: error }, 'worker thread failed');
    });
    running.add(this);
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        running.delete(this);
        for (const { reject } of this.#calls.values()) reject(failure);
        this.#calls.clear();
        closeFd(this.#controlFd);
        const asked = this.#closing !== undefined;
        this.#closing ??= this.#exited;
        resolve();
        if (!asked) options.lost?.(failure);
      });
    });
  }

  /** Asks the service; a XenError it throws arrives as one. */
  call(request: unknown): Promise<unknown> {
    if (this.#closing !== undefined) return Promise.reject(new Error('worker thread has ended'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#post({ id, request });
    });
  }

  /** Lets the service close and the thread end. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  /** The process is exiting: gets the thread out of its loop for good. */
  abandon(): void {
    this.#ring(Wanted.EXITING);
  }

  async #end(): Promise<void> {
    this.#post({ exit: true });
    const grace = setTimeout(() => {
      void this.#worker.terminate();
    }, EXIT_GRACE);
    await this.#exited;
    clearTimeout(grace);
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
    this.#ring(Wanted.MESSAGE);
  }

  #ring(wanted: number): void {
    Atomics.or(this.#wanted, 0, wanted);
    signalEventfd(this.#controlFd);
  }

  #settle(message: Exclude<FromWorker, { event: unknown } | { warning: string }>): void {
    const call = this.#calls.get(message.id);
    this.#calls.delete(message.id);
    if ('reply' in message) call?.resolve(message.reply);
    else if (message.errno !== undefined) call?.reject(new XenError(message.errno, message.text));
    else call?.reject(new Error(message.text));
  }
}

/** The bell as the worker's loop sees it. */
export interface Control {
  /** eventfd, readable when the main thread wants something. */
  readonly fd: number;
  /** True from the main thread's request until the loop has returned. */
  wanted(): boolean;
}

/** What runs in the worker. */
export interface Service {
  /** Answers a request of the main thread; may throw XenError. */
  handle(request: unknown): unknown;
  /** Whether `run` has anything to serve. */
  readonly active: boolean;
  /** Serves until `control.wanted()`, sleeping in between. An exception here is our own bug and ends the thread. */
  run(): void;
  close(): void;
}

/**
 * How long a worker waits for a page of the guest that is paged out: as long as spec A0 has it, but when the main thread
 * wants something, which may be the end of the connection, only a little longer.
 */
class WorkerPatience implements Patience {
  #wantedSince = 0;
  #asked = 0;

  constructor(
    private readonly control: Control,
    private readonly warn: (text: string) => void,
  ) {}

  cancelled(): boolean {
    if (!this.control.wanted()) {
      this.#wantedSince = 0;
      return false;
    }
    const now = performance.now();
    // What was wanted in an earlier wait may be another thing than what is wanted now.
    if (this.#wantedSince === 0 || now - this.#asked > PAGE_GRACE) this.#wantedSince = now;
    this.#asked = now;
    return now - this.#wantedSince > PAGE_GRACE;
  }

  gaveUp(ref: number): void {
    this.warn(`gnttab_retry_eagain: ref ${ref} eagain grant`);
  }

  slow(ref: number, ms: number): void {
    this.warn(`a grant waits for its page: ref ${ref}, ${ms} ms so far`);
  }
}

/** The worker's side: makes the service and alternates between its loop and the main thread's requests. */
export function serveWorker<Data>(
  make: (data: Data, control: Control, emit: (event: unknown) => void, patience: Patience) => Service,
): void {
  const port = parentPort;
  if (port === null) throw new Error('not a worker thread');
  const { controlFd, wanted, data } = workerData as Seed;
  const word = new Int32Array(wanted);
  const control: Control = { fd: controlFd, wanted: () => Atomics.load(word, 0) !== Wanted.NOTHING };
  const send = (message: FromWorker): void => {
    port.postMessage(message);
  };
  const patience = new WorkerPatience(control, (warning) => {
    send({ warning });
  });
  const service = make(data as Data, control, (event) => {
    send({ event });
  }, patience);

  let scheduled = false;
  const schedule = (): void => {
    if (scheduled || !service.active) return;
    scheduled = true;
    // The event loop delivers messages between two immediates.
    setImmediate(() => {
      scheduled = false;
      if (!service.active) return;
      service.run();
      // The bell is cleared before the messages are read: one that comes later rings it again.
      drainEventfd(controlFd);
      const before = Atomics.and(word, 0, ~Wanted.MESSAGE);
      if ((before & Wanted.EXITING) === 0) schedule();
    });
  };

  port.on('message', (message: ToWorker) => {
    if ('exit' in message) {
      service.close();
      port.close();
      return;
    }
    const { id } = message;
    try {
      send({ id, reply: service.handle(message.request) });
    } catch (error) {
      const errno = error instanceof XenError ? error.errno : undefined;
      send({ id, errno, text: (error as Error).message });
    }
    schedule();
  });
}
