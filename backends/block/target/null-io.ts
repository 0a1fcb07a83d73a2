/** No disk at all: every request succeeds at once, reads leave the guest's pages as they are. Shows what our own code costs. */
import { Field, RECORD_SHIFT } from '../records.js';
import type { Records } from '../records.js';
import type { CompletionSink, TargetIo } from './target-io.js';

/** Requests of a batch. */
const BATCH = 512;

export class NullIo implements TargetIo {
  readonly completesInRing = false;
  private sinks: CompletionSink[] = [];
  private readonly tags = new Int32Array(2 * BATCH);
  private readonly queues = new Int32Array(2 * BATCH);
  private readonly results = new Int32Array(2 * BATCH);
  /** Two batches, as in inline-io.ts. */
  private base = 0;
  private count = 0;

  get room(): number {
    return BATCH - this.count;
  }

  attach(queues: readonly { readonly sink: CompletionSink }[]): void {
    this.sinks = queues.map(({ sink }) => sink);
  }

  submit(queue: number, records: Records, tag: number): void {
    const at = this.base + this.count++;
    this.tags[at] = tag;
    this.queues[at] = queue;
    this.results[at] = records.words[(tag << RECORD_SHIFT) + Field.LEFT]!;
  }

  push(): void {}

  poll(): number {
    const { base, count, tags, queues, results, sinks } = this;
    if (count === 0) return 0;
    this.base = BATCH - base;
    this.count = 0;
    for (let at = base; at < base + count; at++) sinks[queues[at]!]!.complete(tags[at]!, results[at]!);
    return count;
  }

  arm(): boolean {
    return this.count === 0;
  }

  draining(): void {}

  remap(): void {}

  close(): void {}

  completed(): void {}
}
