/** A raw file or block device: io_uring moves bytes between it and the guest's pages. */
import { PUNCH_HOLE } from '../../../shim/io/block-device.js';
import { FIXED_FILE, FSYNC_DATASYNC, UringOp } from '../../../shim/io/uring.js';
import type { IoUring } from '../../../shim/io/uring.js';
import { Phase } from '../phases.js';
import { Field, RECORD_SHIFT } from '../records.js';
import type { Records } from '../records.js';
import type { TargetIo } from './target-io.js';

/** Index of the disk among the ring's registered files. */
const DISK_FILE = 0;

export class FileIo implements TargetIo {
  readonly completesInRing = true;

  /** @param uring with the open file registered as number 0. Completions carry tag and queue in their user words */
  constructor(private readonly uring: IoUring) {}

  get room(): number {
    return this.uring.room;
  }

  attach(): void {}

  submit(queue: number, records: Records, tag: number): void {
    const { uring } = this;
    const { words } = records;
    const at = tag << RECORD_SHIFT;
    const phases = words[at + Field.PHASES]!;
    const phase = phases & -phases;
    const offsetLo = words[at + Field.OFFSET_LO]!;
    const offsetHi = words[at + Field.OFFSET_HI]!;
    if (phase === Phase.DATA) {
      const write = words[at + Field.WRITE] === 1;
      const buffers = words[at + Field.END]! - words[at + Field.FIRST]!;
      if (buffers === 1) {
        uring.push(
          write ? UringOp.WRITE : UringOp.READ, FIXED_FILE, DISK_FILE, offsetLo, offsetHi,
          words[at + Field.BUFFER_LO]!, words[at + Field.BUFFER_HI]!, words[at + Field.LEFT]!, 0, tag, queue,
        );
      } else {
        uring.push(
          write ? UringOp.WRITEV : UringOp.READV, FIXED_FILE, DISK_FILE, offsetLo, offsetHi,
          records.iovecLo(tag), records.iovecsHi, buffers, 0, tag, queue,
        );
      }
    } else if (phase === Phase.DISCARD) {
      // fallocate(2) through io_uring: length in the address field, mode in the length field.
      uring.push(
        UringOp.FALLOCATE, FIXED_FILE, DISK_FILE, offsetLo, offsetHi,
        words[at + Field.LENGTH_LO]!, words[at + Field.LENGTH_HI]!, PUNCH_HOLE, 0, tag, queue,
      );
    } else {
      uring.push(UringOp.FSYNC, FIXED_FILE, DISK_FILE, 0, 0, 0, 0, 0, FSYNC_DATASYNC, tag, queue);
    }
  }

  /** The loop's next io_uring_enter does it. */
  push(): void {}

  poll(): number {
    return 0;
  }

  arm(): boolean {
    return true;
  }

  draining(): void {}

  remap(): void {}

  close(): void {}

  completed(): void {}
}
