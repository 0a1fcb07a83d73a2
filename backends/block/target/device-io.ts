/**
 * A block device that discards: a thread of its own waits for the device there (kvm/addon/discarder.cc says why), so that
 * a discard of the whole disk holds up neither this thread nor the kernel threads other requests may need.
 * Everything else is io_uring's.
 */
import { createEventfd, closeFd } from '../../../shim/io/eventfd.js';
import { Discarder } from '../../../shim/io/discard.js';
import type { DiscardLimits } from '../../../shim/io/discard.js';
import { Doorbell } from '../../../shim/io/doorbell.js';
import type { IoUring } from '../../../shim/io/uring.js';
import { Phase } from '../phases.js';
import { Field, RECORD_SHIFT } from '../records.js';
import type { Records } from '../records.js';
import { FileIo } from './file-io.js';
import { TARGET_USER } from './target-io.js';
import type { CompletionSink, TargetIo } from './target-io.js';

/** A discard's number: its queue from this bit on, its tag below. A ring has 512 slots at most. */
const QUEUE_SHIFT = 16;

export class DeviceIo implements TargetIo {
  readonly completesInRing = true;
  private readonly ring: FileIo;
  private readonly bellFd = createEventfd();
  private readonly bell: Doorbell;
  private readonly discarder: Discarder;
  private sinks: CompletionSink[] = [];

  /** @param uring with the device registered as file number 0 */
  constructor(uring: IoUring, fd: number, limits: Pick<DiscardLimits, 'granularity' | 'alignment'>) {
    this.ring = new FileIo(uring);
    this.bell = new Doorbell(uring, this.bellFd, 0, TARGET_USER);
    this.discarder = new Discarder(fd, this.bellFd, limits);
  }

  get room(): number {
    return this.ring.room;
  }

  attach(queues: readonly { readonly sink: CompletionSink }[]): void {
    this.sinks = queues.map(({ sink }) => sink);
    this.discarder.abandon(false);
  }

  submit(queue: number, records: Records, tag: number): void {
    const { words } = records;
    const at = tag << RECORD_SHIFT;
    const phases = words[at + Field.PHASES]!;
    const phase = phases & -phases;
    if (phase < Phase.DISCARD) {
      this.ring.submit(queue, records, tag);
      return;
    }
    const offset = bytes(words[at + Field.OFFSET_LO]!, words[at + Field.OFFSET_HI]!);
    const length = bytes(words[at + Field.LENGTH_LO]!, words[at + Field.LENGTH_HI]!);
    this.discarder.push((queue << QUEUE_SHIFT) | tag, offset, length, phase === Phase.SECURE_DISCARD);
  }

  push(): void {}

  poll(): number {
    const { discarder, sinks } = this;
    const count = discarder.take();
    for (let at = 0; at < count; at++) {
      const id = discarder.id(at);
      sinks[id >>> QUEUE_SHIFT]!.complete(id & ((1 << QUEUE_SHIFT) - 1), discarder.result(at));
    }
    return count;
  }

  /** The bell is hung up before the last look: a discard that ends in between rings it. */
  arm(): boolean {
    this.bell.arm();
    return this.poll() === 0;
  }

  /** A frontend that leaves does not wait for what it no longer has a use for. */
  draining(): void {
    this.discarder.abandon(true);
  }

  remap(): void {}

  close(): void {
    this.discarder.close();
    closeFd(this.bellFd);
  }

  completed(_userLo: number, flags: number, result: number): void {
    this.bell.completed(flags, result);
  }
}

const bytes = (lo: number, hi: number): number => hi * 0x1_0000_0000 + (lo >>> 0);
