/** One queue of a disk in this thread: real rings, grants, io_uring and file, and a frontend that does as it is told. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { native } from '../../../kvm/native.js';
import { BLKIF_X86_64, BlkifOp } from '../../../shim/abi/io/blkif.js';
import type { BlkifAbi } from '../../../shim/abi/io/blkif.js';
import type { ForeignGrants } from '../../../shim/grant-table/foreign.js';
import type { Arena } from '../../../shim/io/memory.js';
import { IoUring } from '../../../shim/io/uring.js';
import { MAX_BUFFER_PAGES } from '../../../backends/block/bounce-pool.js';
import { Connection } from '../../../backends/block/connection.js';
import type { Alert } from '../../../backends/block/messages.js';
import type { BlockQueue } from '../../../backends/block/queue.js';
import { Field, RECORD_SHIFT } from '../../../backends/block/records.js';
import { readStatistics, statisticsBuffer } from '../../../backends/block/statistics.js';
import type { BlockStatistics } from '../../../backends/block/statistics.js';
import { FileIo } from '../../../backends/block/target/file-io.js';
import type { Target } from '../../../backends/block/target/target.js';
import { FakeGuest } from '../../helpers/fake-frontend-guest.js';
import type { GuestPage } from '../../helpers/fake-frontend-guest.js';
import { FakeFrontRing } from '../../helpers/fake-frontend-ring.js';
import type { Request, Response, Segment } from '../../helpers/fake-frontend-ring.js';

export interface RigOptions {
  readonly sectors?: number;
  readonly readonly?: boolean;
  readonly sectorSize?: number;
  readonly discard?: boolean;
  readonly discardSecure?: boolean;
  readonly abi?: BlkifAbi;
  readonly order?: number;
  readonly startAt?: number;
  readonly persistent?: boolean;
  /** What the target wants buffers to be multiples of. */
  readonly alignment?: number;
  readonly maxBufferPages?: number;
  /** Where bounce pages come from, if not from the host. */
  reserve?(bytes: number): Arena;
  /** Stands between the queue and the grant engine. */
  wrapGrants?(grants: ForeignGrants): ForeignGrants;
  /** Told of what the queue has the target do. */
  submitted?(phases: number): void;
}

export interface GrantedPage extends GuestPage {
  readonly ref: number;
}

export class QueueRig {
  readonly guest = new FakeGuest(256);
  readonly ring: FakeFrontRing;
  readonly uring = new IoUring(64, 1024);
  readonly path: string;
  readonly queue: BlockQueue;
  readonly connection: Connection;
  readonly #dir = mkdtempSync(join(tmpdir(), 'xenshim-block-'));
  readonly #fd: number;
  readonly callFd = native.eventfd();
  /** The queue's time in ms: a test says what it is. */
  readonly clock = new Float64Array(1);
  readonly alerts: Alert[] = [];
  readonly #statistics = statisticsBuffer(1);
  #id = 1n;

  constructor(options: RigOptions = {}) {
    const { sectors = 2048, abi = BLKIF_X86_64 } = options;
    this.path = join(this.#dir, 'disk.img');
    writeFileSync(this.path, pattern(sectors * 512));
    this.#fd = openSync(this.path, options.readonly === true ? 'r' : 'r+');
    const target: Target = {
      sectors,
      sectorSize: options.sectorSize ?? 512,
      physicalSectorSize: 512,
      readonly: options.readonly ?? false,
      discardGranularity: options.discard === false ? undefined : 4096,
      ...(options.discardSecure === undefined ? {} : { discardSecure: options.discardSecure }),
      ...(options.alignment === undefined ? {} : { alignment: options.alignment }),
    };
    this.ring = new FakeFrontRing(this.guest, options.order ?? 0, abi);
    if (options.startAt !== undefined) this.ring.startAt(options.startAt);
    this.uring.registerFiles([this.#fd]);
    const grants = options.wrapGrants?.(this.guest.attached.grants) ?? this.guest.attached.grants;
    this.connection = new Connection(
      {
        grants,
        io: watched(new FileIo(this.uring), options),
        target,
        statistics: this.#statistics,
        clock: this.clock,
        ...(options.reserve === undefined ? {} : { reserve: options.reserve }),
        alert: (alert) => this.alerts.push(alert),
      },
      abi.name,
      [{ ringRefs: this.ring.refs, kickFd: -1, callFd: this.callFd }],
      { persistent: options.persistent === true, maxBufferPages: options.maxBufferPages ?? MAX_BUFFER_PAGES },
    );
    this.queue = this.connection.queues[0]!.queue;
  }

  get nextId(): bigint {
    // Both words used, and the sign bit of each.
    const id = this.#id++;
    return (id << 63n) | (id << 31n) | id;
  }

  stats(): BlockStatistics {
    return readStatistics(this.#statistics);
  }

  /** Events raised since the last call. */
  raised(): number {
    return native.eventfdDrain(this.callFd);
  }

  page(readonly = false, fill = 0): GrantedPage {
    const page = this.guest.page();
    page.u8.fill(fill);
    return { ...page, ref: this.guest.grant(page.gfn, readonly) };
  }

  disk(): Buffer {
    return readFileSync(this.path);
  }

  /** Serves what is in the ring until nothing is in flight. */
  pump(): Response[] {
    for (let pass = 0; pass < 1000; pass++) {
      this.queue.pausedUntil = 0;
      const { stalled } = this.queue;
      const taken = this.queue.take();
      this.step(this.queue.inflight > 0 ? 1 : 0);
      if (taken === 0 && !stalled && this.queue.inflight === 0) return this.ring.responses();
    }
    throw new Error('the queue does not come to rest');
  }

  /** Submits, waits for `completions`, answers. */
  step(completions: number): void {
    if (this.uring.toSubmit > 0 || completions > 0) this.uring.enter(completions, 5_000_000);
    const count = this.uring.completions();
    for (let i = 0; i < count; i++) this.queue.complete(this.uring.userLo(i), this.uring.result(i));
    if (count > 0) this.uring.consume(count);
    this.queue.publish();
  }

  /** One request from beginning to end. */
  request(request: Omit<Request, 'id'>): Response {
    const id = this.nextId;
    this.ring.write({ ...request, id: BigInt.asUintN(64, id) });
    this.ring.push();
    const responses = this.pump();
    if (responses.length !== 1) throw new Error(`${responses.length} responses to one request`);
    if (responses[0]!.id !== BigInt.asUintN(64, id)) throw new Error('response to another request');
    return responses[0]!;
  }

  read(sector: number, segments: readonly Segment[]): Response {
    return this.request({ op: BlkifOp.READ, sector: BigInt(sector), segments });
  }

  write(sector: number, segments: readonly Segment[]): Response {
    return this.request({ op: BlkifOp.WRITE, sector: BigInt(sector), segments });
  }

  /** Lets go of everything; what the guest still has pinned afterwards. */
  close(): number {
    this.connection.release();
    this.uring.close();
    const { handles, pinnedRefs } = this.guest.stats();
    this.guest.close();
    native.closeFd(this.callFd);
    closeSync(this.#fd);
    rmSync(this.#dir, { recursive: true });
    return handles + pinnedRefs;
  }
}

/** Grants that go on to `grants`, but for what `own` does itself. */
export const passOn = (grants: ForeignGrants, own: Partial<ForeignGrants>): ForeignGrants => ({
  begin: () => {
    grants.begin();
  },
  end: () => {
    grants.end();
  },
  map: (batch, changed) => grants.map(batch, changed),
  unmap: (batch) => grants.unmap(batch),
  mapPages: (batch) => grants.mapPages(batch),
  settlePages: (batch) => grants.settlePages(batch),
  handOverPage: (batch, op, changed) => {
    grants.handOverPage(batch, op, changed);
  },
  unmapHandles: (batch) => {
    grants.unmapHandles(batch);
  },
  mapOne: (ref, readonly, context, changed) => grants.mapOne(ref, readonly, context, changed),
  unmapOne: (handle) => grants.unmapOne(handle),
  copyFrom: () => -1,
  copyTo: () => -1,
  ...own,
});

/** Bytes that differ from sector to sector. */
export function pattern(bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 4) buffer.writeUInt32LE(((at >>> 9) * 2654435761 + at) >>> 0, at);
  return buffer;
}

function watched(io: FileIo, { submitted }: RigOptions): FileIo {
  if (submitted === undefined) return io;
  const submit = io.submit.bind(io);
  io.submit = (queue, records, tag) => {
    submitted(records.words[(tag << RECORD_SHIFT) + Field.PHASES]!);
    submit(queue, records, tag);
  };
  return io;
}
