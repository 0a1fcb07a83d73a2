/**
 * A disk behind a vhost-user back end: a virtqueue per ring of the frontend, the guest's own pages as the buffers. What
 * the back end had in hand when it went is given to its successor again: every request of a disk can be done twice.
 */
import { Doorbell } from '../../../../shim/io/doorbell.js';
import { sharedArena } from '../../../../shim/io/memory.js';
import type { SharedArena } from '../../../../shim/io/memory.js';
import type { IoUring } from '../../../../shim/io/uring.js';
import type { SharedRange } from '../../../../shim/memory/attach.js';
import { Phase } from '../../phases.js';
import { Field, RECORD_SHIFT } from '../../records.js';
import type { Records } from '../../records.js';
import type { TargetNews } from '../report.js';
import { TARGET_USER } from '../target-io.js';
import type { CompletionSink, TargetIo } from '../target-io.js';
import type { VhostDevice } from './device.js';
import type { VhostChannel } from './protocol.js';
import { Entry, ENTRY_BITS, VhostSession } from './session.js';
import { setUp } from './set-up.js';
import { discardPiece, RING_SIZE, Vring, VRING_BYTES } from './vring.js';

const EIO = -5;
/** ms a connection that is ending waits for a back end that does not answer. */
const DRAIN_PATIENCE = 10_000;

export interface VhostUserParts {
  readonly uring: IoUring;
  /** Where the back end is met (shim/io/unix-stream.ts). */
  readonly placeFd: number;
  /** Most queues a frontend may have. */
  readonly queues: number;
  /** Guest RAM as it is now. */
  memory(): readonly SharedRange[];
  tell(news: TargetNews): void;
}

interface Attached {
  readonly sink: CompletionSink;
  readonly records: Records;
}

export class VhostUserIo implements TargetIo {
  readonly completesInRing = true;
  /** A tag is a descriptor: there is always room. */
  readonly room = 0x1_0000;
  private attached: readonly Attached[] = [];
  private readonly arena: SharedArena;
  private readonly rings: Vring[] = [];
  private readonly bells: Doorbell[] = [];
  /** One byte a tag and queue: submitted and not completed, whether a back end has it or not. */
  private readonly flying: Uint8Array;
  private readonly session: VhostSession;
  private up = false;
  private wasLost = false;
  /** Requests are not given to a successor any more. */
  private failing = false;
  private drainNumber = 0;
  private maxDiscard = 0;

  constructor(private readonly parts: VhostUserParts) {
    this.arena = sharedArena('xenshim-virtqueues', parts.queues * VRING_BYTES);
    this.flying = new Uint8Array(parts.queues * RING_SIZE);
    for (let i = 0; i < parts.queues; i++) {
      const ring = new Vring(this.arena, i);
      this.rings.push(ring);
      this.bells.push(new Doorbell(parts.uring, ring.callFd, Entry.CALL | (i << ENTRY_BITS), TARGET_USER));
    }
    this.session = new VhostSession({
      uring: parts.uring,
      placeFd: parts.placeFd,
      up: (channel, device) => {
        this.begin(channel, device);
      },
      down: () => {
        this.end();
      },
      trouble: (text) => {
        parts.tell({ state: 'trouble', text });
      },
    });
  }

  attach(queues: readonly Attached[]): void {
    if (queues.length > this.rings.length) throw new Error(`${queues.length} queues, and ${this.rings.length} virtqueues`);
    this.up = false;
    this.failing = false;
    this.wasLost = false;
    this.drainNumber++;
    this.session.close();
    this.flying.fill(0);
    this.attached = queues;
    if (queues.length > 0) this.session.open();
  }

  submit(queue: number, records: Records, tag: number): void {
    this.flying[queue * RING_SIZE + tag] = 1;
    if (this.up) this.rings[queue]!.add(records, tag, this.maxDiscard);
  }

  push(): void {
    if (!this.up) return;
    for (let i = 0; i < this.attached.length; i++) this.rings[i]!.push();
  }

  poll(): number {
    let count = 0;
    for (let i = 0; this.up && i < this.attached.length; i++) {
      const ring = this.rings[i]!;
      for (let tag = ring.take(); tag >= 0; tag = ring.take()) {
        if (tag < RING_SIZE && this.flying[i * RING_SIZE + tag] === 1) this.finish(i, tag, ring.outcome(tag));
        count++;
      }
    }
    return count;
  }

  arm(): boolean {
    let asleep = true;
    for (let i = 0; this.up && i < this.attached.length; i++) {
      const ring = this.rings[i]!;
      if (ring.pending === 0) continue;
      this.bells[i]!.arm();
      if (!ring.arm()) asleep = false;
    }
    return asleep;
  }

  completed(userLo: number, flags: number, result: number): void {
    const entry = userLo & ((1 << ENTRY_BITS) - 1);
    const number = userLo >>> ENTRY_BITS;
    if (entry === Entry.CALL) this.bells[number]?.completed(flags, result);
    else if (entry !== Entry.DRAIN) this.session.completed(entry, number);
    else if (number === this.drainNumber) this.giveUp();
  }

  /** The connection is ending: whatever is in flight has a limited time left. */
  draining(): void {
    if (this.flying.includes(1)) this.session.startTimer(Entry.DRAIN, ++this.drainNumber, DRAIN_PATIENCE);
  }

  /** Guest RAM has a new layout, which the back end learns on a new connection. */
  remap(): void {
    this.up = false;
    this.session.restart();
  }

  close(): void {
    this.session.release();
    for (const ring of this.rings) ring.close();
    this.arena.free();
  }

  private begin(channel: VhostChannel, device: VhostDevice): void {
    const { arena, attached } = this;
    if (device.queues < attached.length) throw new Error(`${attached.length} queues wanted, ${device.queues} offered`);
    const own = { fd: arena.fd, offset: 0, length: arena.bytes, hva: arena.hi * 0x1_0000_0000 + (arena.lo >>> 0) };
    setUp(channel, device.memorySlots, [...this.parts.memory(), own], this.rings.slice(0, attached.length));
    this.maxDiscard = device.maxDiscard;
    this.up = true;
    let again = 0;
    for (const [queue, { records }] of attached.entries()) {
      for (let tag = 0; tag < RING_SIZE; tag++) {
        if (this.flying[queue * RING_SIZE + tag] === 0) continue;
        this.rings[queue]!.add(records, tag, this.maxDiscard);
        again++;
      }
    }
    this.push();
    if (this.wasLost) this.parts.tell({ state: 'back', again });
    this.wasLost = false;
  }

  private end(): void {
    // What it had finished, it had finished.
    this.poll();
    this.up = false;
    this.wasLost = true;
    this.parts.tell({ state: 'lost' });
    if (this.failing) this.failAll();
  }

  private finish(queue: number, tag: number, outcome: number): void {
    const { sink, records } = this.attached[queue]!;
    this.flying[queue * RING_SIZE + tag] = 0;
    const { words } = records;
    const at = tag << RECORD_SHIFT;
    const phases = words[at + Field.PHASES]!;
    const phase = phases & -phases;
    if (outcome < 0) sink.complete(tag, outcome);
    else if (phase === Phase.DATA) sink.complete(tag, words[at + Field.LEFT]!);
    else if (phase === Phase.DISCARD && this.moreToDiscard(records, tag)) this.submit(queue, records, tag);
    else sink.complete(tag, 0);
  }

  /** Takes the piece that is done off a discard; whether there is another one. */
  private moreToDiscard(records: Records, tag: number): boolean {
    const { words } = records;
    const at = tag << RECORD_SHIFT;
    const piece = discardPiece(records, tag, this.maxDiscard) * 512;
    const left = words[at + Field.LENGTH_HI]! * 0x1_0000_0000 + (words[at + Field.LENGTH_LO]! >>> 0) - piece;
    const next = words[at + Field.OFFSET_HI]! * 0x1_0000_0000 + (words[at + Field.OFFSET_LO]! >>> 0) + piece;
    words[at + Field.LENGTH_LO] = left | 0;
    words[at + Field.LENGTH_HI] = Math.floor(left / 0x1_0000_0000);
    words[at + Field.OFFSET_LO] = next | 0;
    words[at + Field.OFFSET_HI] = Math.floor(next / 0x1_0000_0000);
    return left > 0;
  }

  private giveUp(): void {
    this.failing = true;
    if (this.up) this.parts.tell({ state: 'stuck' });
    else this.failAll();
  }

  /** The guest lets go of its disk, and nobody is there who could do what it asked for. */
  private failAll(): void {
    for (let at = this.flying.indexOf(1); at >= 0; at = this.flying.indexOf(1)) {
      this.flying[at] = 0;
      this.attached[Math.floor(at / RING_SIZE)]!.sink.complete(at % RING_SIZE, EIO);
    }
  }
}
