/**
 * The threads of a disk, asked as one. There is one, unless the operator spreads the queues over several so that they use
 * several processors: queue i is then thread i modulo their number's, so that even a few queues do not meet on one thread.
 */
import type { Log } from '../../shim/observe/log.js';
import { threadScript } from '../thread-scripts.js';
import { WorkerHost } from '../worker-host.js';
import type { WorkerEvent, WorkerRequest, WorkerSettings } from './messages.js';

type ConnectRequest = Extract<WorkerRequest, { kind: 'connect' }>;

export interface DiskWorkersOptions {
  readonly name: string;
  /** Threads. */
  readonly count: number;
  readonly settings: WorkerSettings;
  readonly log: Log;
  event(event: Exclude<WorkerEvent, { kind: 'attached' }>): void;
  /** A thread ended without being asked to: our own bug. Its number in the grant table, if it had one already. */
  lost(thread: number | undefined): void;
}

export class DiskWorkers {
  readonly #hosts: readonly WorkerHost[];

  constructor(options: DiskWorkersOptions) {
    const { name, count } = options;
    this.#hosts = Array.from({ length: count }, (_, i) => start(options, count > 1 ? `${name}.${i}` : name));
  }

  /** @throws XenError of the first worker that could not map a ring; then none has a connection */
  async connect(request: Omit<ConnectRequest, 'kind'>): Promise<void> {
    const count = this.#hosts.length;
    const numbered = request.queues.map((queue, number) => ({ ...queue, number }));
    const connected = this.#hosts.map((host, i) => {
      const part: ConnectRequest = { ...request, kind: 'connect', queues: numbered.filter(({ number }) => number % count === i) };
      return host.call(part);
    });
    try {
      await all(connected);
    } catch (error) {
      // A worker that has died meanwhile is told of by `lost`.
      if (count > 1) await this.ask({ kind: 'release' }).catch(() => {});
      throw error;
    }
  }

  /** Asks every worker, and waits for every answer even if one of them is an error, which is thrown then. */
  ask(request: Exclude<WorkerRequest, ConnectRequest>): Promise<void> {
    return all(this.#hosts.map((host) => host.call(request)));
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.close()));
  }
}

async function all(answers: readonly Promise<unknown>[]): Promise<void> {
  for (const answer of await Promise.allSettled(answers)) if (answer.status === 'rejected') throw answer.reason;
}

function start(options: DiskWorkersOptions, name: string): WorkerHost {
  let thread: number | undefined;
  return new WorkerHost({
    script: threadScript('disk'),
    name,
    data: options.settings,
    log: options.log,
    event: (message) => {
      const event = message as WorkerEvent;
      if (event.kind === 'attached') thread = event.thread;
      else options.event(event);
    },
    lost: () => {
      options.lost(thread);
    },
  });
}
