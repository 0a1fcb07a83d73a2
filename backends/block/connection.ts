/** The worker's half of a connection: ring pages pinned and the queues on them. */
import { BLKIF_X86_32, BLKIF_X86_64, SECTOR_SIZE } from '../../shim/abi/io/blkif.js';
import type { BlkifAbi } from '../../shim/abi/io/blkif.js';
import { Errno } from '../../shim/abi/errno.js';
import { ringSlots } from '../../shim/abi/io/ring.js';
import { arena } from '../../shim/io/memory.js';
import type { Arena } from '../../shim/io/memory.js';
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import { XenError } from '../../shim/observe/errors.js';
import { BackRing } from '../../shim/ring/back-ring.js';
import type { RingPage } from '../../shim/ring/back-ring.js';
import { Bounce } from './bounce.js';
import { BouncePool, MAX_BUFFER_PAGES } from './bounce-pool.js';
import { Latency } from './latency.js';
import type { Alert, ProtocolName, QueueSettings } from './messages.js';
import { PersistentMaps } from './persistent-maps.js';
import { BlockQueue } from './queue.js';
import { Records } from './records.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';
import { queueCounters, queueLatencies } from './statistics.js';
import type { TargetIo } from './target/target-io.js';
import type { Target } from './target/target.js';

export interface ConnectionParts {
  readonly grants: ForeignGrants;
  readonly io: TargetIo;
  readonly target: Target;
  readonly statistics: SharedArrayBuffer;
  /** The time in ms, written by the loop once per batch; without one it stands still. */
  readonly clock?: Float64Array;
  /** Memory for bounce pages, if not from the host. */
  readonly reserve?: (bytes: number) => Arena;
  /** Something about a queue that the operator should know. */
  alert?(alert: Alert, queue: number): void;
}

/** What both sides agreed on, and the operator's wishes. */
export interface ConnectionSettings {
  readonly persistent?: boolean;
  /** Free bounce pages kept per queue. */
  readonly maxBufferPages?: number;
}

const ABIS: Readonly<Record<ProtocolName, BlkifAbi>> = { 'x86_64-abi': BLKIF_X86_64, 'x86_32-abi': BLKIF_X86_32 };

export class Connection {
  readonly queues: { readonly queue: BlockQueue; readonly number: number; readonly kickFd: number }[] = [];
  readonly #handles: number[] = [];
  readonly #records: Records[] = [];
  readonly #persistent: PersistentMaps[] = [];
  readonly #bounces: Bounce[] = [];

  /** @throws XenError with nothing left mapped */
  constructor(
    readonly parts: ConnectionParts,
    protocol: ProtocolName,
    settings: readonly QueueSettings[],
    private readonly wanted: ConnectionSettings = {},
  ) {
    try {
      for (const [index, queue] of settings.entries()) this.#open(index, ABIS[protocol], queue);
      parts.io.attach(this.queues.map(({ queue }, index) => ({ sink: queue, records: this.#records[index]! })));
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** The disk has another size. */
  resize(target: Target): void {
    for (const { queue } of this.queues) queue.resize(target);
  }

  setMaxBufferPages(pages: number): void {
    for (const bounce of this.#bounces) bounce.setMax(pages);
  }

  /** Unmaps rings and persistent grants, frees bounce pages and records, in this order. The queues must be drained. Idempotent. */
  release(): void {
    this.parts.io.attach([]);
    for (const { queue } of this.queues) queue.release();
    for (const handle of this.#handles.splice(0)) this.parts.grants.unmapOne(handle);
    for (const persistent of this.#persistent.splice(0)) persistent.close();
    for (const bounce of this.#bounces.splice(0)) bounce.close();
    for (const records of this.#records.splice(0)) records.release();
    this.queues.length = 0;
  }

  #open(index: number, abi: BlkifAbi, settings: QueueSettings): void {
    const { number = index } = settings;
    const pages = settings.ringRefs.map((ref) => this.#mapPage(ref));
    const slots = ringSlots(pages.length, abi.slotBytes);
    const ring = new BackRing(pages, slots, abi.slotBytes);
    if (ring.halted) throw new XenError(Errno.EIO, `ring of queue ${number} has impossible indexes`);
    const records = new Records(slots);
    this.#records.push(records);
    const { grants, io, target, statistics, clock = new Float64Array(1) } = this.parts;
    const counters = queueCounters(statistics, number);
    const queue = new BlockQueue({
      index,
      ring,
      abi,
      records,
      grants,
      io,
      target,
      counters,
      latency: new Latency(queueLatencies(statistics, number), clock, slots),
      clock,
      persistent: this.wanted.persistent === true ? this.#keepGrants(number, records, counters, clock) : undefined,
      bounce: this.#bounce(number, records, counters),
      callFd: settings.callFd,
    });
    this.queues.push({ queue, number, kickFd: settings.kickFd });
  }

  #keepGrants(queue: number, records: Records, counters: Float64Array, clock: Float64Array): PersistentMaps {
    const { grants, alert } = this.parts;
    const persistent = new PersistentMaps(grants, records, counters, clock, {
      duplicate: () => alert?.('duplicate-gref', queue),
      overflow: () => alert?.('grant-overflow', queue),
    });
    this.#persistent.push(persistent);
    return persistent;
  }

  /** Nothing the guest can ask for is less aligned than a sector. */
  #bounce(queue: number, records: Records, counters: Float64Array): Bounce | undefined {
    const { target, reserve = arena, alert } = this.parts;
    const { alignment = SECTOR_SIZE } = target;
    if (alignment <= SECTOR_SIZE) return undefined;
    const pool = new BouncePool(records.count * MAX_INDIRECT_SEGMENTS, this.wanted.maxBufferPages ?? MAX_BUFFER_PAGES, reserve);
    let told = false;
    const bounce = new Bounce(pool, records, counters, alignment, () => {
      if (!told) alert?.('no-memory', queue);
      told = true;
    });
    this.#bounces.push(bounce);
    return bounce;
  }

  #mapPage(ref: number): RingPage {
    let page: RingPage | undefined;
    const handle = this.parts.grants.mapOne(ref, false, 0, (_context, window, offset) => {
      page = { i32: window.i32, base: offset >>> 2 };
    });
    if (handle < 0) throw new XenError(Errno.EINVAL, `mapping ring-ref ${ref}: grant status ${handle}`);
    this.#handles.push(handle);
    if (page === undefined) throw new XenError(Errno.EINVAL, `mapping ring-ref ${ref}: no page`);
    return page;
  }
}
