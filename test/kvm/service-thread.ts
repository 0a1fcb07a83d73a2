/** A thread that plays the plugin's service thread: answers requests as told, because who asks waits without a turn. */
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { native } from '../../kvm/native.js';
import { Op } from '../../kvm/native-bridge-protocol.js';
import { receiveMessage, sendMessage, type Message, type Received } from './plugin.js';

/** How one request is dealt with. */
export interface Script {
  /** Messages sent before the reply. */
  readonly before?: readonly Message[];
  readonly result?: number;
  readonly args?: readonly (number | bigint)[];
  /** A reply to another request comes first. */
  readonly stale?: boolean;
  /** No reply: the plugin's end is closed. */
  readonly end?: boolean;
}

interface Data {
  readonly fd: number;
  /** One for each request, in order; the last is used for all that follow. */
  readonly scripts: readonly Script[];
}

function serve({ fd, scripts }: Data, port: NonNullable<typeof parentPort>): void {
  let stop = false;
  port.once('message', () => (stop = true));
  let served = 0;
  const turn = (): void => {
    if (stop) {
      port.close();
      return;
    }
    const request = receiveMessage(fd, 20);
    if (request === null) return;
    if (request !== undefined) {
      port.postMessage(request);
      if (request.op < Op.Raise) {
        const script = scripts[Math.min(served++, scripts.length - 1)]!;
        for (const message of script.before ?? []) sendMessage(fd, message);
        if (script.end === true) {
          native.closeFd(fd);
          port.close();
          return;
        }
        if (script.stale === true) sendMessage(fd, { op: Op.Reply, seq: request.seq - 1, result: -1, args: [99] });
        sendMessage(fd, { op: Op.Reply, seq: request.seq, result: script.result ?? 0, args: script.args ?? [] });
      }
    }
    setImmediate(turn);
  };
  port.postMessage('ready');
  turn();
}

if (parentPort !== null && (workerData as Partial<Data> | null)?.scripts !== undefined) {
  serve(workerData as Data, parentPort);
}

export interface Service {
  /** Every request and one-way message seen so far. */
  readonly seen: readonly Received[];
  stop(): Promise<void>;
}

/** Starts the thread on the plugin's descriptor; settles when it listens. */
export async function startService(fd: number, ...scripts: Script[]): Promise<Service> {
  const worker = new Worker(new URL(import.meta.url), { workerData: { fd, scripts } satisfies Data });
  const seen: Received[] = [];
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    worker.once('error', reject);
    worker.on('message', (message: Received | 'ready') => {
      if (message === 'ready') resolve();
      else seen.push(message);
    });
  });
  return {
    seen,
    stop: async () => {
      worker.postMessage('stop');
      await ended;
    },
  };
}
