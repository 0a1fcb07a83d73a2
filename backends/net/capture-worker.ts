/** The thread that writes a capture: takes frames out of the queues' rings and appends them to the file. */
import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { CaptureReader } from './capture-ring.js';
import type { CaptureWorkerSettings } from './capture.js';
import { fileHead, fileTail, packet } from './pcapng.js';

const { fd, rings, bell, name, snapLength } = workerData as CaptureWorkerSettings;
const word = new Int32Array(bell);
const readers = rings.map((ring) => new CaptureReader(ring));
/** Bytes gathered for one write. */
const CHUNK = 2 ** 20;

/** A disk that is full ends the capture, not the vif. */
let failure: string | undefined;
let blocks: Buffer[] = [];
let gathered = 0;

function write(bytes: Buffer): void {
  if (failure !== undefined) return;
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  } catch (error) {
    failure = (error as Error).message;
    parentPort?.postMessage({ failed: failure });
  }
}

function flush(): void {
  if (gathered > 0) write(Buffer.concat(blocks));
  blocks = [];
  gathered = 0;
}

function drain(): number {
  let frames = 0;
  for (const reader of readers) {
    frames += reader.drain((frame) => {
      const bytes = packet(frame);
      blocks.push(bytes);
      gathered += bytes.length;
      if (gathered >= CHUNK) flush();
    });
  }
  flush();
  return frames;
}

write(fileHead(name, snapLength));
for (let closing = false; !closing; ) {
  Atomics.wait(word, 0, 0);
  // Cleared before the rings are looked at: what comes later rings again.
  Atomics.exchange(word, 0, 0);
  closing = Atomics.load(word, 1) !== 0;
  while (drain() > 0);
}
const dropped = readers.reduce((sum, reader) => sum + reader.dropped, 0);
write(fileTail(dropped, Date.now()));
