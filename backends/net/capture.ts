/** The frames of a vif in a pcapng file, written by a thread of its own; the data path never waits for it. */
import { closeSync, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import { threadScript } from '../thread-scripts.js';
import { CAPTURE_RING_BYTES } from './capture-ring.js';

/** All of any frame. */
export const DEFAULT_SNAP_LENGTH = 262_144;

/** What a queue's thread writes into. */
export interface CapturePlace {
  readonly memory: SharedArrayBuffer;
  readonly bell: SharedArrayBuffer;
  readonly snapLength: number;
}

export interface CaptureWorkerSettings {
  readonly fd: number;
  readonly rings: readonly SharedArrayBuffer[];
  /** Word 0: frames have come; word 1: the end. */
  readonly bell: SharedArrayBuffer;
  readonly name: string;
  readonly snapLength: number;
}

export interface Capture {
  readonly file: string;
  place(queue: number): CapturePlace;
  /** Writes what is still on its way. The queues must have disconnected. Idempotent. */
  close(): Promise<void>;
}

export interface CaptureOptions {
  readonly file: string;
  /** Name of the interface in the file. */
  readonly name: string;
  /** Queues there may be. */
  readonly queues: number;
  /** Bytes kept of a frame. */
  readonly snapLength?: number;
  readonly log: Log;
}

/** Opens a file, which is overwritten. @throws OperatorError PCAP_FILE */
export function openCapture(options: CaptureOptions): Capture {
  const { file, name, queues, snapLength = DEFAULT_SNAP_LENGTH, log } = options;
  let fd: number;
  try {
    fd = openSync(file, 'w', 0o600);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new OperatorError('PCAP_FILE', `pcap=${file}: cannot be written (${reason})`, 'choose another file');
  }
  const rings = Array.from({ length: queues }, () => new SharedArrayBuffer(CAPTURE_RING_BYTES));
  const bell = new SharedArrayBuffer(8);
  const settings: CaptureWorkerSettings = { fd, rings, bell, name, snapLength };
  const worker = new Worker(threadScript('capture'), { workerData: settings, name: `pcap-${name}` });
  worker.on('message', ({ failed }: { failed: string }) => {
    log.warn({ file, reason: failed }, 'the capture has ended: its file cannot be written');
  });
  worker.on('error', (error) => {
    log.error({ file, err: error }, 'the capture failed');
  });
  const ended = new Promise<void>((resolve) => {
    worker.on('exit', () => {
      process.off('exit', end);
      closeSync(fd);
      resolve();
    });
  });
  const words = new Int32Array(bell);
  function end(): void {
    Atomics.store(words, 1, 1);
    Atomics.store(words, 0, 1);
    Atomics.notify(words, 0);
  }
  // A thread that sleeps on a word keeps a process from ending.
  process.on('exit', end);
  return {
    file,
    place: (queue) => ({ memory: rings[queue]!, bell, snapLength }),
    close() {
      end();
      return ended;
    },
  };
}
