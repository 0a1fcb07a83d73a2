/**
 * A file every access to which is a copy in memory (tmpfs): done by this thread in batches. io_uring would hand each
 * request to a thread of the kernel, which takes longer than the copy.
 */
import { InlineFile, InlineOp } from '../../../shim/io/inline-file.js';
import { Phase } from '../phases.js';
import { Field, RECORD_SHIFT } from '../records.js';
import type { Records } from '../records.js';
import type { CompletionSink, TargetIo } from './target-io.js';

/** Requests of a batch. */
const BATCH = 64;

export class InlineIo implements TargetIo {
  readonly completesInRing = false;
  private sinks: CompletionSink[] = [];
  /** Two batches: what completes may go on at once (the rest of a short read, a next phase), into the other one. */
  private readonly tags = new Int32Array(2 * BATCH);
  private readonly queues = new Int32Array(2 * BATCH);
  private readonly file: InlineFile;
  /** Where the batch being filled begins, and how much is in it. */
  private base = 0;
  private count = 0;

  constructor(fd: number) {
    this.file = new InlineFile(fd, 2 * BATCH);
  }

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
    const { words } = records;
    const record = tag << RECORD_SHIFT;
    const phases = words[record + Field.PHASES]!;
    const phase = phases & -phases;
    const offsetLo = words[record + Field.OFFSET_LO]!;
    const offsetHi = words[record + Field.OFFSET_HI]!;
    if (phase === Phase.DATA) {
      const op = words[record + Field.WRITE] === 1 ? InlineOp.WRITE : InlineOp.READ;
      const buffers = words[record + Field.END]! - words[record + Field.FIRST]!;
      if (buffers === 1) {
        this.file.set(
          at, op, 0, offsetLo, offsetHi, words[record + Field.BUFFER_LO]!, words[record + Field.BUFFER_HI]!, words[record + Field.LEFT]!,
        );
      } else {
        this.file.set(at, op, buffers, offsetLo, offsetHi, records.iovecLo(tag), records.iovecsHi, 0);
      }
    } else if (phase === Phase.DISCARD) {
      this.file.set(
        at, InlineOp.PUNCH, 0, offsetLo, offsetHi, words[record + Field.LENGTH_LO]!, words[record + Field.LENGTH_HI]!, 0,
      );
    } else {
      this.file.set(at, InlineOp.SYNC, 0, 0, 0, 0, 0, 0);
    }
  }

  push(): void {}

  poll(): number {
    const { base, count, file, tags, queues, sinks } = this;
    if (count === 0) return 0;
    this.base = BATCH - base;
    this.count = 0;
    file.run(base, count);
    for (let at = base; at < base + count; at++) sinks[queues[at]!]!.complete(tags[at]!, file.result(at));
    return count;
  }

  /** Nothing is ever under way while the thread sleeps. */
  arm(): boolean {
    return this.count === 0;
  }

  draining(): void {}

  remap(): void {}

  close(): void {}

  completed(): void {}
}
