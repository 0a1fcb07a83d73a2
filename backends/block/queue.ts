/**
 * One ring of a disk: takes requests, checks a private copy, pins the guest's pages, has the target move bytes
 * between them and the disk, unpins, answers (spec B4). Nothing is allocated per request.
 */
import { performance } from 'node:perf_hooks';

import { BlkifOp, BlkifStatus, DISCARD_SECURE, MAX_SEGMENTS, SECTOR_SHIFT, SECTOR_SIZE } from '../../shim/abi/io/blkif.js';
import type { BlkifAbi } from '../../shim/abi/io/blkif.js';
import type { ForeignGrants, PageChanged } from '../../shim/grant-table/foreign.js';
import { signalEventfd } from '../../shim/io/eventfd.js';
import type { BackRing } from '../../shim/ring/back-ring.js';
import { Taken } from './bounce.js';
import type { Bounce } from './bounce.js';
import type { Latency } from './latency.js';
import { Mapped, RequestPages } from './pages.js';
import type { PersistentMaps } from './persistent-maps.js';
import { Phase } from './phases.js';
import { Field, RECORD_SHIFT } from './records.js';
import type { Records } from './records.js';
import { RequestMaps } from './request-maps.js';
import { MAX_INDIRECT_SEGMENTS, RequestCopy, sectorNumber } from './request.js';
import { Counter } from './statistics.js';
import type { CompletionSink, TargetIo } from './target/target-io.js';
import type { Target } from './target/target.js';
import { Unpins } from './unpins.js';

/** The request was started: its completion will answer it. */
const STARTED = 1;
/** It stays in the ring until others have finished. */
const POSTPONED = 2;
/** No barrier is waiting or under way. */
const NO_BARRIER = -1;
/** After a request that was wrong, nothing is taken for this long (ms): a bad frontend cannot spin the worker. */
const ERROR_PAUSE = 1;
/** Linux EOPNOTSUPP as a completion has it. */
const NOT_SUPPORTED = -95;
/**
 * Requests taken at a time: while the disk works on them, or a frontend that slept is being woken for their responses,
 * the next ones are prepared.
 */
const CHUNK = 16;

export interface QueueParts {
  /** Comes back in the high word of every completion. */
  readonly index: number;
  readonly ring: BackRing;
  readonly abi: BlkifAbi;
  readonly records: Records;
  readonly grants: ForeignGrants;
  readonly io: TargetIo;
  readonly target: Target;
  readonly counters: Float64Array;
  readonly latency: Latency;
  /** The worker's time in ms, which the loop writes once per batch. */
  readonly clock: Float64Array;
  /** Only if both sides agreed on persistent grants. */
  readonly persistent: PersistentMaps | undefined;
  /** Only if there may be data that cannot go straight to the guest's pages. */
  readonly bounce: Bounce | undefined;
  readonly callFd: number;
}

export class BlockQueue implements CompletionSink {
  readonly ring: BackRing;
  /** Requests started and not yet answered, a waiting barrier included. */
  inflight = 0;
  /** Nothing more is taken: the connection is ending. */
  stopped = false;
  /** Until then (ms of `performance.now`) nothing is taken; 0 = no pause. */
  pausedUntil = 0;
  /** Tag of the barrier that waits for the others, or is under way. */
  private barrier = NO_BARRIER;
  private readonly index: number;
  /** Words of a response, the fourth being all padding. */
  private readonly responseWords: number;
  private readonly records: Records;
  private readonly grants: ForeignGrants;
  private readonly io: TargetIo;
  private target: Target;
  private readonly counters: Float64Array;
  private readonly latency: Latency;
  private readonly clock: Float64Array;
  private readonly persistent: PersistentMaps | undefined;
  private readonly bounce: Bounce | undefined;
  private readonly callFd: number;
  private readonly request: RequestCopy;
  private readonly maps: RequestMaps;
  private readonly unpins: Unpins;
  /** Of requests taken and not yet submitted. */
  private readonly pages = new RequestPages(CHUNK);
  private readonly sectorMask: number;

  constructor(parts: QueueParts) {
    this.index = parts.index;
    this.ring = parts.ring;
    this.responseWords = parts.abi.responseBytes >>> 2;
    this.records = parts.records;
    this.grants = parts.grants;
    this.io = parts.io;
    this.target = parts.target;
    this.counters = parts.counters;
    this.latency = parts.latency;
    this.clock = parts.clock;
    this.persistent = parts.persistent;
    this.bounce = parts.bounce;
    this.callFd = parts.callFd;
    this.unpins = new Unpins(parts.grants, parts.records);
    this.request = new RequestCopy(parts.abi);
    this.maps = new RequestMaps(parts, this.request, this.unpins);
    this.sectorMask = parts.target.sectorSize / SECTOR_SIZE - 1;
  }

  /** True if requests may be waiting that cannot be taken now; a completion will change that. */
  get stalled(): boolean {
    return this.barrier !== NO_BARRIER || this.records.free === 0 || this.starved;
  }

  private get starved(): boolean {
    return this.bounce !== undefined && this.bounce.starved;
  }

  /** When `publish` has something to do though nothing happens (ms); Infinity if never. */
  get upkeepAt(): number {
    return this.persistent === undefined ? Infinity : this.persistent.due;
  }

  /** Gives its memory back; nothing is called afterwards. */
  release(): void {
    this.pages.release();
    this.unpins.release();
  }

  /** Counts for requests taken from now on. */
  resize(target: Target): void {
    this.target = target;
  }

  /** Takes what waits in the ring, as far as there is room; returns how many requests. */
  take(): number {
    if (this.stopped || this.barrier !== NO_BARRIER || this.starved) return 0;
    if (this.pausedUntil !== 0) {
      if (performance.now() < this.pausedUntil) return 0;
      this.pausedUntil = 0;
    }
    const waiting = this.ring.available();
    if (waiting <= 0) return 0;
    if (waiting + this.ring.unanswered === this.ring.slots) this.counters[Counter.ring_full]! += 1;
    this.grants.begin();
    const taken = this.takeUpTo(waiting < CHUNK ? waiting : CHUNK);
    if (this.pages.requests > 0) this.mapPages();
    this.grants.end();
    return taken;
  }

  private takeUpTo(waiting: number): number {
    let taken = 0;
    while (taken < waiting && this.io.room > this.pages.requests) {
      if (this.records.free === 0) {
        this.counters[Counter.oo_req]! += 1;
        break;
      }
      this.request.take(this.ring);
      taken++;
      const status = this.start();
      if (status === STARTED) {
        if (this.barrier !== NO_BARRIER) break;
        continue;
      }
      if (status === POSTPONED) {
        this.ring.giveBack();
        taken--;
        break;
      }
      this.respond(this.request.idLo, this.request.idHi, this.request.op, status);
      if (status === BlkifStatus.ERROR) {
        this.pausedUntil = performance.now() + ERROR_PAUSE;
        break;
      }
    }
    return taken;
  }

  /** A completion of the entry that carried `tag`. */
  complete(tag: number, result: number): void {
    const { records } = this;
    const { words } = records;
    const at = tag << RECORD_SHIFT;
    const phases = words[at + Field.PHASES]!;
    const phase = phases & -phases;
    if (result < 0) {
      const unsupported = phase >= Phase.DISCARD && result === NOT_SUPPORTED;
      this.finish(tag, unsupported ? BlkifStatus.EOPNOTSUPP : BlkifStatus.ERROR);
      return;
    }
    if (phase === Phase.DATA && result !== words[at + Field.LEFT]) {
      // Nothing at all is the end of a file that has shrunk; less than asked is asked again.
      if (result === 0) {
        this.finish(tag, BlkifStatus.ERROR);
      } else {
        records.advance(tag, result);
        this.submit(tag);
      }
      return;
    }
    const rest = phases & ~phase;
    words[at + Field.PHASES] = rest;
    if (rest === 0) this.finish(tag, BlkifStatus.OKAY);
    else this.submit(tag);
  }

  /** Unpins what finished, then publishes the responses, then tells the frontend if it asked: in this order (XSA-396). */
  publish(): void {
    this.unpins.flush();
    if (this.persistent !== undefined && this.clock[0]! >= this.persistent.due) this.persistent.upkeep();
    if (this.bounce !== undefined) this.bounce.trim();
    if (this.ring.publish()) signalEventfd(this.callFd);
  }

  /** Starts the request just taken, or says what to answer at once. */
  private start(): number {
    const { op, indirect, segments } = this.request;
    if (indirect) return this.startIndirect();
    switch (op) {
      case BlkifOp.READ:
      case BlkifOp.WRITE:
        if (segments === 0 || segments > MAX_SEGMENTS) return BlkifStatus.ERROR;
        return this.startData(op, Phase.DATA);
      case BlkifOp.WRITE_BARRIER:
        if (segments > MAX_SEGMENTS) return BlkifStatus.ERROR;
        if (segments === 0) return this.startBarrier(this.startFlush());
        return this.startBarrier(this.startData(BlkifOp.WRITE, Phase.FLUSH_BEFORE | Phase.DATA | Phase.FLUSH_AFTER));
      case BlkifOp.FLUSH_DISKCACHE:
        if (segments > MAX_SEGMENTS) return BlkifStatus.ERROR;
        if (segments === 0) return this.submitted(this.startFlush());
        return this.startData(BlkifOp.WRITE, Phase.FLUSH_BEFORE | Phase.DATA);
      case BlkifOp.DISCARD:
        return this.startDiscard();
      default:
        return BlkifStatus.EOPNOTSUPP;
    }
  }

  private startIndirect(): number {
    const { op, segments, indirectRef } = this.request;
    if (op !== BlkifOp.READ && op !== BlkifOp.WRITE) return BlkifStatus.ERROR;
    if (segments === 0 || segments > MAX_INDIRECT_SEGMENTS) return BlkifStatus.ERROR;
    const handle = this.grants.mapOne(indirectRef, true, segments, this.copySegments);
    if (handle < 0) return BlkifStatus.ERROR;
    this.grants.unmapOne(handle);
    return this.startData(op, Phase.DATA);
  }

  /** Copies an indirect page's segments, each word once. */
  private readonly copySegments: PageChanged = (segments, window, offset) => {
    const into = this.request.segment;
    const from = window.i32;
    const at = offset >>> 2;
    for (let i = 0; i < 2 * segments; i++) into[i] = from[at + i]!;
  };

  private startData(op: number, phases: number): number {
    const { request, records, target } = this;
    const write = op === BlkifOp.WRITE;
    const sectors = request.sectors();
    if (sectors < 0 || (write && target.readonly)) return BlkifStatus.ERROR;
    if (!this.onDisk(sectors) || ((request.sectorLo | sectors) & this.sectorMask) !== 0) return BlkifStatus.ERROR;
    const tag = records.take();
    const bounce = this.bounce?.needed(request) === true ? this.bounce : undefined;
    if (bounce === undefined && this.persistent === undefined && phases === Phase.DATA) {
      this.enterData(tag, phases, write);
      this.pages.add(tag, request, write);
      return STARTED;
    }
    if (bounce !== undefined) {
      const outcome = this.mapBounced(bounce, tag, write, sectors);
      if (outcome !== STARTED) {
        records.give(tag);
        return outcome;
      }
    } else if (!this.maps.map(tag, write)) {
      records.give(tag);
      return BlkifStatus.ERROR;
    }
    this.enterData(tag, phases, write);
    this.countData(write, sectors);
    if ((phases & Phase.FLUSH_BEFORE) !== 0) this.counters[Counter.f_req]! += 1;
    // A barrier is submitted when its turn has come.
    if ((phases & Phase.FLUSH_AFTER) === 0) this.submit(tag);
    else this.barrier = tag;
    return STARTED;
  }

  private countData(write: boolean, sectors: number): void {
    this.counters[write ? Counter.wr_req : Counter.rd_req]! += 1;
    this.counters[write ? Counter.wr_sect : Counter.rd_sect]! += sectors;
  }

  /** Maps the pages of the requests just taken, and submits them in their order. */
  private mapPages(): void {
    const { pages, records } = this;
    this.grants.mapPages(pages.batch);
    for (let i = 0; i < pages.requests; i++) {
      const tag = pages.tag(i);
      const outcome = pages.collect(i, records);
      if (outcome === Mapped.ALL || (outcome === Mapped.AGAIN && this.maps.again(pages, i))) {
        const at = tag << RECORD_SHIFT;
        this.countData(records.words[at + Field.WRITE] !== 0, records.words[at + Field.LEFT]! >>> SECTOR_SHIFT);
        this.submit(tag);
      } else {
        this.refuse(tag);
      }
    }
    pages.clear();
  }

  /** A request that was taken, and cannot be done for lack of a page. */
  private refuse(tag: number): void {
    const { words } = this.records;
    const at = tag << RECORD_SHIFT;
    this.maps.unmap(tag);
    this.respond(words[at + Field.ID_LO]!, words[at + Field.ID_HI]!, words[at + Field.OP]!, BlkifStatus.ERROR);
    this.records.give(tag);
    this.pausedUntil = performance.now() + ERROR_PAUSE;
    this.ended(tag);
  }

  /** Whether `sectors` from the request's position on lie on the disk. The sum is a double: it cannot wrap. */
  private onDisk(sectors: number): boolean {
    return sectorNumber(this.request.sectorLo, this.request.sectorHi) + sectors <= this.target.sectors;
  }

  private mapBounced(bounce: Bounce, tag: number, write: boolean, sectors: number): number {
    const taken = bounce.take(tag, this.request, sectors);
    if (taken !== Taken.PAGES) return taken === Taken.WAIT ? POSTPONED : BlkifStatus.ERROR;
    if (!this.maps.map(tag, write, bounce.addPage)) {
      bounce.end(tag, false);
      return BlkifStatus.ERROR;
    }
    bounce.begin(tag, write, sectors);
    return STARTED;
  }

  private startFlush(): number {
    const tag = this.records.take();
    this.enter(tag, Phase.FLUSH_BEFORE);
    this.counters[Counter.f_req]! += 1;
    return tag;
  }

  private startDiscard(): number {
    const { request, records, target } = this;
    if (target.discardGranularity === undefined && !target.readonly) return BlkifStatus.EOPNOTSUPP;
    const sectors = sectorNumber(request.nrLo, request.nrHi);
    if (target.readonly || sectors === 0 || !this.onDisk(sectors)) return BlkifStatus.ERROR;
    if (((request.sectorLo | request.nrLo) & this.sectorMask) !== 0) return BlkifStatus.ERROR;
    const tag = records.take();
    // A discard has a flag where others have their number of segments. One that cannot be secure is done as a plain one.
    const secure = (request.segments & DISCARD_SECURE) !== 0 && target.discardSecure === true;
    this.enter(tag, secure ? Phase.SECURE_DISCARD : Phase.DISCARD);
    const at = tag << RECORD_SHIFT;
    records.words[at + Field.LENGTH_LO] = request.nrLo << SECTOR_SHIFT;
    records.words[at + Field.LENGTH_HI] = (request.nrHi << SECTOR_SHIFT) | (request.nrLo >>> (32 - SECTOR_SHIFT));
    this.counters[Counter.ds_req]! += 1;
    return this.submitted(tag);
  }

  /** Fills in what every record has. */
  private enter(tag: number, phases: number): void {
    const { request } = this;
    const { words } = this.records;
    const at = tag << RECORD_SHIFT;
    words[at + Field.ID_LO] = request.idLo;
    words[at + Field.ID_HI] = request.idHi;
    words[at + Field.OP] = request.op;
    words[at + Field.PHASES] = phases;
    words[at + Field.OFFSET_LO] = request.sectorLo << SECTOR_SHIFT;
    words[at + Field.OFFSET_HI] = (request.sectorHi << SECTOR_SHIFT) | (request.sectorLo >>> (32 - SECTOR_SHIFT));
    this.latency.started(tag);
    this.inflight++;
  }

  private enterData(tag: number, phases: number, write: boolean): void {
    this.enter(tag, phases);
    this.records.words[(tag << RECORD_SHIFT) + Field.WRITE] = write ? 1 : 0;
  }

  private submitted(tag: number): number {
    this.submit(tag);
    return STARTED;
  }

  /** A barrier with data has recorded itself; one without is given as its tag. An error passes through. */
  private startBarrier(outcome: number): number {
    if (this.request.segments === 0) this.barrier = outcome;
    else if (outcome !== STARTED) return outcome;
    this.releaseBarrier();
    return STARTED;
  }

  /** Submits the waiting barrier once it is the only request in flight. */
  private releaseBarrier(): void {
    if (this.inflight === 1) this.submit(this.barrier);
  }

  /** Starts the lowest phase of a record. */
  private submit(tag: number): void {
    this.io.submit(this.index, this.records, tag);
  }

  /** Answers a record and takes it back. Its pins go before the response is published, in `publish`. */
  private finish(tag: number, status: number): void {
    const { records } = this;
    const { words } = records;
    const at = tag << RECORD_SHIFT;
    if (this.bounce !== undefined) this.bounce.end(tag, status === BlkifStatus.OKAY && words[at + Field.WRITE] === 0);
    this.maps.unmap(tag);
    this.latency.ended(tag, words[at + Field.OP]!);
    this.respond(words[at + Field.ID_LO]!, words[at + Field.ID_HI]!, words[at + Field.OP]!, status);
    records.give(tag);
    this.ended(tag);
  }

  private ended(tag: number): void {
    this.inflight--;
    if (this.barrier === tag) this.barrier = NO_BARRIER;
    else if (this.barrier !== NO_BARRIER) this.releaseBarrier();
  }

  /** Writes a response word by word over a slot already consumed: no byte of ours leaks in its padding (XSA-216). */
  private respond(idLo: number, idHi: number, op: number, status: number): void {
    this.ring.respond(this.responseWords, idLo, idHi, op | (status << 16), 0);
    if (status !== BlkifStatus.OKAY) this.counters[Counter.errors]! += 1;
  }
}
