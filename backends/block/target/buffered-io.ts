/**
 * A file behind the page cache of a file system whose buffered writes io_uring hands to threads of the kernel (ext4):
 * there a write costs 30 µs of hand-overs and 1 µs of work, so this thread does the work itself. Reads and flushes go
 * through io_uring, which answers what is cached at once and waits for the disk where it must.
 */
import type { IoUring } from '../../../shim/io/uring.js';
import { Phase } from '../phases.js';
import { Field, RECORD_SHIFT } from '../records.js';
import type { Records } from '../records.js';
import { FileIo } from './file-io.js';
import { InlineIo } from './inline-io.js';
import type { CompletionSink, TargetIo } from './target-io.js';

export class BufferedIo implements TargetIo {
  readonly completesInRing = true;
  private readonly ring: FileIo;
  private readonly writes: InlineIo;

  /** @param uring with the open file registered as number 0 */
  constructor(uring: IoUring, fd: number) {
    this.ring = new FileIo(uring);
    this.writes = new InlineIo(fd);
  }

  get room(): number {
    return Math.min(this.ring.room, this.writes.room);
  }

  attach(queues: readonly { readonly sink: CompletionSink }[]): void {
    this.writes.attach(queues);
  }

  submit(queue: number, records: Records, tag: number): void {
    const at = tag << RECORD_SHIFT;
    const phases = records.words[at + Field.PHASES]!;
    const data = (phases & -phases) === Phase.DATA;
    if (data && records.words[at + Field.WRITE] === 1) this.writes.submit(queue, records, tag);
    else this.ring.submit(queue, records, tag);
  }

  push(): void {}

  poll(): number {
    return this.writes.poll();
  }

  arm(): boolean {
    return this.writes.arm();
  }

  draining(): void {}

  remap(): void {}

  close(): void {}

  completed(): void {}
}
