/**
 * One receive ring: frames from the link into buffers the guest has posted. A frame waits here, in our memory, until
 * there are slots for all of it; how many wait and for how long is bounded (XSA-391, XSA-392).
 */
import { Sring } from '../../shim/abi/io/ring.js';
import { NetifRsp, NetRxFlag } from '../../shim/abi/io/netif.js';
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import type { BackRing, RingPage } from '../../shim/ring/back-ring.js';
import type { Arena } from './arena.js';
import { CaptureDirection } from './capture-ring.js';
import type { CaptureWriter } from './capture-ring.js';
import { MIN_FRAME } from './headers.js';
import type { Offloads } from './link.js';
import type { VifLive } from './messages.js';
import { RxExtras } from './rx-extras.js';
import { RxPolicy } from './rx-policy.js';
import { Direct, MAX_PAGES, RxDirect } from './rx-direct.js';
import type { RxDirectSource } from './rx-direct.js';
import { RxOffload } from './rx-offload.js';
import { Counter } from './stats.js';
import { VnetHeader } from './vnet-header.js';

/** Frames read and not yet delivered at most. */
const BUFFERS = 64;
/** Room for a header and 64 KiB of segments with the headers in front of them. */
const BUFFER_BYTES = MAX_PAGES * PAGE_SIZE;
/** Bytes that may wait for the guest (spec C4: 128 pages). */
export const MAX_QUEUED_BYTES = 128 * PAGE_SIZE;
/** Reads begun at once at most. */
const MAX_BATCH = 32;

/** How long a frame waits for the guest: with `feature-rx-notify`, and without. */
export const DRAIN_MS = 10_000;
export const DRAIN_NO_NOTIFY_MS = 30;
/** Without progress for so long, the guest counts as gone and the link loses its carrier. */
export const STALL_MS = 60_000;
/** A guest that does not notify is looked at this often while frames wait. */
const POLL_MS = 2;
/** A link that fails is left alone for so long. */
const LINK_RETRY_MS = 100;

export const RX_ARENA_BYTES = BUFFERS * BUFFER_BYTES;

const EAGAIN = -11;

/** Brings frames from the link. Each `read` is answered by one `RxQueue.received`, in order. */
export interface RxSource extends RxDirectSource {
  read(buffer: number, address: number, length: number): void;
}

export interface RxQueueOptions {
  readonly ring: BackRing;
  /** The ring's page: how far ahead the next event is asked for depends on the frame that waits. */
  readonly page: RingPage;
  readonly grants: ForeignGrants;
  readonly source: RxSource;
  readonly arena: Arena;
  /** RX_DIRECT_ARENA_BYTES. */
  readonly directArena: Arena;
  readonly counters: Float64Array;
  /** What the frontend takes unfinished. */
  readonly offloads: Offloads;
  /** `feature-sg`: a frame may have several slots. */
  readonly scatterGather: boolean;
  /** `feature-rx-notify`: the guest says when it has posted buffers. */
  readonly notifies: boolean;
  /** Which frames are wanted, and by which queue. */
  readonly policy: RxPolicy;
  readonly capture?: CaptureWriter | undefined;
}

export class RxQueue {
  disabled = false;
  reason = '';
  /** The guest has posted nothing for STALL_MS. */
  stalled = false;
  /** ms on the caller's clock at which `tick` has something to do; Infinity when nothing waits. */
  wakeAt = Infinity;
  settings: VifLive = { up: true, xdpHeadroom: 0 };

  readonly #ring: BackRing;
  readonly #page: RingPage;
  readonly #slot = new Int32Array(2);
  readonly #grants: ForeignGrants;
  readonly #source: RxSource;
  readonly #arena: Arena;
  readonly #counters: Float64Array;
  readonly #offload: RxOffload;
  readonly #scatterGather: boolean;
  readonly #drainMs: number;
  readonly #stallMs: number;
  readonly #notifies: boolean;
  readonly #policy: RxPolicy;
  readonly #capture: CaptureWriter | undefined;

  readonly #direct: RxDirect;
  readonly #free = Int32Array.from({ length: BUFFERS }, (_, i) => BUFFERS - 1 - i);
  #freeCount = BUFFERS;
  #reading = 0;
  #batch = 1;
  /** The link had nothing more; reads begin again after `readable`. */
  #empty = false;
  /** `peek` brought a frame the last time. */
  #peeked = false;
  #retryAt = -Infinity;
  /** Buffers that wait, oldest at #head. */
  readonly #fifo = new Int32Array(BUFFERS);
  #head = 0;
  #waiting = 0;
  #queuedBytes = 0;
  /** Per buffer: bytes of the frame, slots it takes, flags of its first slot, extras, when it came. */
  readonly #length = new Int32Array(BUFFERS);
  readonly #needs = new Int32Array(BUFFERS);
  readonly #flags = new Int32Array(BUFFERS);
  readonly #extras = new RxExtras(BUFFERS);
  readonly #arrived = new Float64Array(BUFFERS);
  /** Slots the oldest frame lacks buffers for, and since when; 0 while the guest keeps up. */
  #lacking = 0;
  #lackingSince = 0;

  constructor(options: RxQueueOptions) {
    this.#ring = options.ring;
    this.#page = options.page;
    this.#grants = options.grants;
    this.#source = options.source;
    this.#arena = options.arena;
    this.#counters = options.counters;
    this.#offload = new RxOffload(options.arena, options.offloads);
    this.#scatterGather = options.scatterGather;
    this.#direct = new RxDirect({ ...options, buffers: options.arena, arena: options.directArena, offload: this.#offload });
    this.#notifies = options.notifies;
    this.#policy = options.policy;
    this.#capture = options.capture;
    this.#drainMs = options.notifies ? DRAIN_MS : DRAIN_NO_NOTIFY_MS;
    this.#stallMs = options.notifies ? STALL_MS : Infinity;
  }

  /** Frames that wait for the guest. */
  get waiting(): number {
    return this.#waiting;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Whether reads end because the link has nothing, so that it is worth waiting for. */
  get linkEmpty(): boolean {
    return this.#empty;
  }

  /** The link has frames again. */
  readable(): void {
    this.#empty = false;
  }

  /** Reads that could begin now: as far as the link has frames and there is room for them. */
  wants(now: number): number {
    if (this.disabled || this.#empty || this.#reading > 0 || now < this.#retryAt) return 0;
    const room = Math.floor((MAX_QUEUED_BYTES - this.#queuedBytes) / BUFFER_BYTES);
    return Math.min(this.#batch, this.#freeCount, room);
  }

  /** Begins reads. Returns how many. */
  fill(now: number): number {
    if (this.#fillDirect(now)) return this.#reading;
    const count = this.wants(now);
    this.#reading += count;
    for (let i = 0; i < count; i++) {
      const buffer = this.#free[--this.#freeCount]!;
      this.#source.read(buffer, this.#arena.hva + buffer * BUFFER_BYTES, BUFFER_BYTES);
    }
    return count;
  }

  /**
   * Begins reads into posted pages; false if there are none, or if frames must be looked at before the guest has them.
   * All their frames may turn out to be large and have to wait, so what waits may once exceed MAX_QUEUED_BYTES by a
   * batch; the buffers are there anyway.
   */
  #fillDirect(now: number): boolean {
    const direct = this.#direct;
    if (!this.#mayReadDirect(now)) return false;
    const count = direct.possible(Math.min(this.#batch, this.#freeCount));
    if (count === 0) return false;
    for (let i = 0; i < count; i++) direct.add(this.#free[--this.#freeCount]!);
    if (direct.begin()) {
      this.#reading = count;
      return true;
    }
    // The guest's own fault: each slot gets its error on the way through our memory.
    this.#freeCount += count;
    return false;
  }

  #mayReadDirect(now: number): boolean {
    const { up, xdpHeadroom } = this.settings;
    // Frames of other queues go into slots of their own, and a capture wants a copy.
    if (this.#waiting > 0 || this.#policy.handover !== undefined || this.#capture !== undefined) return false;
    return up && xdpHeadroom === 0 && this.#policy.everything && this.wants(now) > 0;
  }

  /**
   * Asks a link that was empty for a frame: what most passes of a spin do. A plain read does where an io_uring would have a
   * single entry. Returns how many frames that has brought.
   */
  peek(now: number): number {
    this.#empty = false;
    const direct = this.#direct;
    if (!this.#mayReadDirect(now) || direct.possible(1) === 0) return 0;
    direct.add(this.#free[--this.#freeCount]!);
    if (!direct.hold()) {
      this.#freeCount++;
      return 0;
    }
    const result = direct.readNow();
    this.#reading = 1;
    // One frame is an answer; where a second one is there at once, more follow, and they are read in batches.
    this.#empty = result >= 0 && !this.#peeked;
    this.#peeked = result >= 0;
    this.receivedDirect(0, result, now);
    return result >= 0 ? 1 : 0;
  }

  /** The end of a read into posted pages, by its index. */
  receivedDirect(index: number, result: number, now: number): void {
    const direct = this.#direct;
    direct.result[index] = result;
    if (--this.#reading > 0) return;
    const { count } = direct;
    direct.settle();
    this.#batch = Math.min(this.#batch * 2, MAX_BATCH);
    for (let i = 0; i < count; i++) {
      const buffer = direct.buffer[i]!;
      if (direct.outcome[i] === Direct.TAKEN_BACK) {
        this.#batch = 1;
        this.#enqueue(buffer, direct.result[i]! - VnetHeader.SIZE, now, true);
        continue;
      }
      this.#free[this.#freeCount++] = buffer;
      if (direct.outcome[i] === Direct.FAILED) {
        this.#linkFailed(direct.result[i]!, now);
      } else {
        this.#lacking = 0;
        this.stalled = false;
      }
    }
  }

  /** A read's end: bytes with the virtio-net header, or a negative errno. */
  received(buffer: number, result: number, now: number): void {
    this.#reading--;
    if (result < 0) {
      this.#free[this.#freeCount++] = buffer;
      this.#linkFailed(result, now);
      return;
    }
    if (this.#reading === 0) this.#batch = Math.min(this.#batch * 2, MAX_BATCH);
    this.#enqueue(buffer, result - VnetHeader.SIZE, now, true);
  }

  #linkFailed(result: number, now: number): void {
    this.#batch = 1;
    if (result === EAGAIN) {
      this.#empty = true;
      return;
    }
    // The interface is down or gone: it may come back, and until then nobody spins for it.
    this.#counters[Counter.linkErrors]!++;
    this.#retryAt = now + LINK_RETRY_MS;
  }

  /** Takes a frame another queue has read, with its virtio-net header; false when there is no room for it now. */
  inject(bytes: Uint8Array, at: number, length: number, now: number): boolean {
    if (this.#freeCount === 0 || this.#queuedBytes + BUFFER_BYTES > MAX_QUEUED_BYTES) return false;
    const buffer = this.#free[--this.#freeCount]!;
    this.#arena.u8.set(bytes.subarray(at, at + length), buffer * BUFFER_BYTES);
    this.#enqueue(buffer, length - VnetHeader.SIZE, now, false);
    return true;
  }

  /** @param steer whether the frame may still go to another queue */
  #enqueue(buffer: number, length: number, now: number, steer: boolean): void {
    const { settings } = this;
    const refused = settings.up
      ? this.#policy.judge(this.#arena.u8, buffer * BUFFER_BYTES, length, steer)
      : Counter.rxDropDown;
    if (refused >= 0 || !this.#accept(buffer, length)) {
      this.#free[this.#freeCount++] = buffer;
      // A frame that another queue has taken counts there.
      if (refused !== RxPolicy.GIVEN) this.#counters[refused >= 0 ? refused : Counter.rxDropUnfit]!++;
      return;
    }
    this.#capture?.frame(CaptureDirection.INBOUND, this.#arena.u8, buffer * BUFFER_BYTES + VnetHeader.SIZE, length);
    this.#arrived[buffer] = now;
    this.#queuedBytes += this.#length[buffer]!;
    this.#fifo[(this.#head + this.#waiting++) % BUFFERS] = buffer;
  }

  /** Unpins everything without a word to the guest. The link must be done with all reads. */
  abandon(): void {
    this.disabled = true;
    this.#direct.abandon();
  }

  /** Gives memory back; nothing may be called afterwards. */
  free(): void {
    this.#direct.free();
  }

  /** Moves frames into posted buffers, oldest first. Returns how many. */
  deliver(now: number): number {
    this.#policy.handover?.take(this, now);
    if (this.disabled || this.#waiting === 0) return 0;
    const ring = this.#ring;
    let posted = ring.available();
    if (posted < 0) {
      this.disabled = true;
      this.reason = 'impossible number of receive buffers';
      return 0;
    }
    let delivered = 0;
    while (this.#waiting > 0) {
      const buffer = this.#fifo[this.#head]!;
      const needs = this.#needs[buffer]!;
      if (posted < needs) {
        if (this.#lacking === 0) this.#lackingSince = now;
        this.#lacking = needs;
        break;
      }
      this.#lacking = 0;
      this.stalled = false;
      posted -= needs;
      this.#copyOut(buffer);
      this.#drop();
      delivered++;
    }
    return delivered;
  }

  /** Publishes responses; true when the guest wants an event. */
  flush(): boolean {
    return !this.disabled && this.#ring.publish();
  }

  /** Asks for an event when the oldest frame's buffers are posted. False when they are already. */
  armEvent(): boolean {
    if (this.disabled) return true;
    if (this.#policy.handover?.waiting === true && this.#freeCount > 0) return false;
    if (!this.stalled && this.#waiting === 0) return true;
    const wanted = Math.max(1, this.#lacking);
    const { i32, base } = this.#page;
    Atomics.store(i32, base + (Sring.req_event >>> 2), (this.#ring.reqCons + wanted) | 0);
    const posted = this.#ring.available();
    return posted >= 0 && posted < wanted;
  }

  /** Lets frames go that have waited too long, and judges whether the guest is there at all. Sets `wakeAt`. */
  tick(now: number): void {
    if (this.disabled) {
      this.wakeAt = Infinity;
      return;
    }
    while (this.#waiting > 0 && now - this.#arrived[this.#fifo[this.#head]!]! >= this.#drainMs) {
      this.#counters[Counter.rxDropExpired]!++;
      this.#drop();
    }
    if (this.#lacking > 0) this.#judge(now);
    this.wakeAt = now < this.#retryAt ? this.#retryAt : Infinity;
    if (this.#waiting > 0) {
      const expiry = this.#arrived[this.#fifo[this.#head]!]! + this.#drainMs;
      this.wakeAt = Math.min(this.wakeAt, this.#notifies ? expiry : Math.min(expiry, now + POLL_MS));
    }
    if (this.#lacking > 0 && !this.stalled) this.wakeAt = Math.min(this.wakeAt, this.#lackingSince + this.#stallMs);
  }

  #judge(now: number): void {
    if (this.#ring.available() >= this.#lacking) {
      this.stalled = false;
      if (this.#waiting === 0) this.#lacking = 0;
    } else if (!this.stalled && now - this.#lackingSince >= this.#stallMs) {
      this.stalled = true;
      this.#counters[Counter.rxStalls]!++;
    }
  }

  /** Judges a frame; false if the frontend cannot take it. */
  #accept(buffer: number, length: number): boolean {
    const offload = this.#offload;
    if (length < MIN_FRAME || !offload.accept(buffer * BUFFER_BYTES, length)) return false;
    const { xdpHeadroom } = this.settings;
    const slots = Math.ceil((xdpHeadroom + length) / PAGE_SIZE);
    if (slots > 1 && !this.#scatterGather) return false;
    this.#length[buffer] = length;
    this.#flags[buffer] = offload.flags;
    this.#needs[buffer] = slots + this.#extras.note(buffer, offload, this.#policy.flow, xdpHeadroom);
    return true;
  }

  #copyOut(buffer: number): void {
    const ring = this.#ring;
    const slot = this.#slot;
    const extras = this.#extras;
    const { u8 } = this.#arena;
    const length = this.#length[buffer]!;
    const frame = buffer * BUFFER_BYTES + VnetHeader.SIZE;
    const extraCount = extras.count[buffer]!;
    let offset = extras.headroom[buffer]!;
    let flags = this.#flags[buffer]! | (extraCount > 0 ? NetRxFlag.extra_info : 0);
    let failed = false;
    for (let done = 0; done < length; ) {
      const part = Math.min(PAGE_SIZE - offset, length - done);
      // The response lies over the request: read first, each word once.
      ring.copyRequest(0, 2, slot, 0);
      ring.consume();
      const id = slot[0]! & 0xffff;
      const ok = this.#grants.copyTo(slot[1]!, offset, u8, frame + done, part) === 0;
      const first = done === 0;
      done += part;
      if (done < length) flags |= NetRxFlag.more_data;
      ring.setResponseWord(0, id | (offset << 16));
      ring.setResponseWord(1, flags | ((ok ? part : NetifRsp.ERROR) << 16));
      ring.pushResponse();
      if (!ok) failed = true;
      if (first && extraCount > 0) extras.push(ring, buffer);
      offset = 0;
      flags = 0;
    }
    this.#counters[Counter.rxSlots]! += this.#needs[buffer]!;
    if (failed) {
      this.#counters[Counter.rxDropGrant]!++;
    } else {
      this.#counters[Counter.rxPackets]!++;
      this.#counters[Counter.rxBytes]! += length;
    }
  }

  /** Gives back the oldest frame's buffer. */
  #drop(): void {
    const buffer = this.#fifo[this.#head]!;
    this.#head = (this.#head + 1) % BUFFERS;
    this.#waiting--;
    this.#queuedBytes -= this.#length[buffer]!;
    this.#free[this.#freeCount++] = buffer;
  }
}
