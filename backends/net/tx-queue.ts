/**
 * One transmit ring: slots in, frames to the link, responses out. Headers are looked at only in a private copy; the
 * rest of a frame goes from the guest's own pages, pinned until the link has taken it.
 */
import { NETIF_RING_SIZE, NetifExtraType, NetifRsp } from '../../shim/abi/io/netif.js';
import { Errno } from '../../shim/abi/errno.js';
import { INVALID_GRANT_HANDLE } from '../../shim/grant-table/foreign.js';
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import { HandleBatch } from '../../shim/grant-table/page-batch.js';
import type { BackRing } from '../../shim/ring/back-ring.js';
import { putIovec } from './arena.js';
import type { Arena } from './arena.js';
import { CaptureDirection } from './capture-ring.js';
import type { CaptureWriter } from './capture-ring.js';
import type { Credit } from './credit.js';
import { HEADER_COPY, HEADER_START } from './headers.js';
import type { VifLive } from './messages.js';
import type { MulticastFilter } from './multicast.js';
import { Counter } from './stats.js';
import { TxOffload } from './tx-offload.js';
import { MAX_ANSWERED_SLOTS, MAX_DATA_SLOTS, SLOT_WORDS, TAG_WORDS, TxPackets, TxSlot } from './tx-packets.js';
import { TxPages } from './tx-pages.js';
import { TxParser, TxVerdict } from './tx-parser.js';
import { VnetHeader } from './vnet-header.js';

/** Packets there can be between the ring and the link. */
const TAGS = NETIF_RING_SIZE;
/** Slots taken in one pass at most: the frontend fills the ring again while the link takes these. */
const PASS_SLOTS = 128;
/** Per tag in the arena: virtio-net header and private copy of the frame's headers, then iovecs from IOVECS on. */
const TAG_BYTES = 640;
const IOVECS = 288;
const FRAME = VnetHeader.SIZE;

export const TX_ARENA_BYTES = TAGS * TAG_BYTES;

/** Takes frames to the link. Each `send` is answered by one `TxQueue.sent`, at once or later. */
export interface TxSink {
  /** A write of `length` bytes at `address`. */
  sendPlain(tag: number, address: number, length: number): void;
  /** A vectored write of `count` iovecs at `address`. */
  send(tag: number, address: number, count: number): void;
  /** Writes may have to wait: `sendNow` is not for this link. */
  readonly waits: boolean;
  /** The same at once: bytes or a negative errno. For a frame that is alone, which is answered the sooner. */
  sendNow(address: number, count: number): number;
}

export interface TxQueueOptions {
  readonly ring: BackRing;
  readonly grants: ForeignGrants;
  readonly sink: TxSink;
  readonly arena: Arena;
  readonly counters: Float64Array;
  readonly credit: Credit;
  readonly multicast: MulticastFilter;
  readonly capture?: CaptureWriter | undefined;
  /** A frame goes to the link when the one before it has been taken: writes that wait may overtake each other. */
  readonly oneByOne?: boolean;
}

export class TxQueue {
  /** Set when the frontend broke the protocol: nothing is consumed or answered any more. */
  disabled = false;
  reason = '';
  errno = 0;
  /** ms on the caller's clock at which a packet that waits for credit may go; Infinity when none waits. */
  wakeAt = Infinity;
  settings: VifLive = { up: true, xdpHeadroom: 0 };

  readonly #ring: BackRing;
  readonly #grants: ForeignGrants;
  readonly #sink: TxSink;
  readonly #arena: Arena;
  readonly #counters: Float64Array;
  readonly #credit: Credit;
  readonly #multicast: MulticastFilter;
  readonly #capture: CaptureWriter | undefined;
  /** Packets between the ring and the link at most. */
  readonly #most: number;
  readonly #packets = new TxPackets(TAGS);
  readonly #parser: TxParser;
  readonly #offload: TxOffload;
  readonly #pages: TxPages;
  readonly #unmaps = new HandleBatch(TAGS * MAX_DATA_SLOTS);
  /** Tags parsed and not yet sent, in ring order; the same for those sent and not yet answered. */
  readonly #parsed = new Int32Array(TAGS);
  #parsedCount = 0;
  readonly #done = new Int32Array(TAGS);
  #doneCount = 0;
  constructor({ ring, grants, sink, arena, counters, credit, multicast, capture, oneByOne }: TxQueueOptions) {
    this.#ring = ring;
    this.#grants = grants;
    this.#sink = sink;
    this.#arena = arena;
    this.#counters = counters;
    this.#credit = credit;
    this.#multicast = multicast;
    this.#capture = capture;
    this.#most = oneByOne === true ? 1 : TAGS;
    this.#parser = new TxParser(ring, this.#packets);
    this.#offload = new TxOffload(arena);
    this.#pages = new TxPages(grants, this.#packets, arena);
  }

  /** Packets the link has not taken yet. */
  get inFlight(): number {
    return this.#packets.used;
  }

  /** Takes packets off the ring and hands them to the link. Returns how many slots were consumed. */
  consume(now: number): number {
    if (this.disabled) return 0;
    const ring = this.#ring;
    const start = ring.reqCons;
    const waiting = ring.available();
    if (waiting < 0) {
      this.#fatal(Errno.EINVAL, 'impossible number of requests');
      return 0;
    }
    const prod = (start + waiting) | 0;
    this.wakeAt = Infinity;
    this.#pages.clear();
    this.#parsedCount = 0;
    const end = waiting > PASS_SLOTS ? (start + PASS_SLOTS) | 0 : prod;
    while (((end - ring.reqCons) | 0) > 0 && this.#packets.used < this.#most && this.#parseOne(prod, now)) {
      // Every packet leaves the ring in here.
    }
    this.#sendParsed();
    return (ring.reqCons - start) >>> 0;
  }

  /** The link's answer to a `send`: bytes written with the virtio-net header, or a negative errno. */
  sent(tag: number, result: number): void {
    if (result < 0) {
      this.#counters[Counter.txDropLink]!++;
    } else {
      this.#counters[Counter.txPackets]!++;
      this.#counters[Counter.txBytes]! += this.#packets.total[tag]!;
    }
    this.#done[this.#doneCount++] = tag;
  }

  /** Unpins and answers what the link has taken. Returns true when the guest wants an event. */
  flush(): boolean {
    if (this.#doneCount > 0) {
      const packets = this.#packets;
      const unmaps = this.#unmaps;
      unmaps.count = 0;
      for (let i = 0; i < this.#doneCount; i++) this.#collectHandles(this.#done[i]!);
      // Before the response is published: a hardened frontend checks that its page is free again (XSA-396).
      if (unmaps.count > 0) this.#grants.unmapHandles(unmaps);
      for (let i = 0; i < this.#doneCount; i++) {
        const tag = this.#done[i]!;
        if (!this.disabled) this.#respond(tag);
        packets.give(tag);
      }
      this.#doneCount = 0;
    }
    return !this.disabled && this.#ring.publish();
  }

  /** Unpins everything without a word to the guest. The link must be done with all frames. */
  abandon(): void {
    this.disabled = true;
    const { words } = this.#packets;
    const unmaps = this.#unmaps;
    unmaps.count = 0;
    for (let at: number = TxSlot.HANDLE; at < words.length; at += SLOT_WORDS) {
      if (words[at] === INVALID_GRANT_HANDLE) continue;
      unmaps.handle[unmaps.count++] = words[at]!;
      words[at] = INVALID_GRANT_HANDLE;
    }
    if (unmaps.count > 0) this.#grants.unmapHandles(unmaps);
  }

  /** Gives memory back; nothing may be called afterwards. */
  free(): void {
    this.#unmaps.free();
    this.#pages.free();
  }

  /** Asks for an event at the next request. False when there is something to do already. */
  armEvent(): boolean {
    if (this.disabled) return true;
    // A packet that waits for credit or for the link is no reason to look at the ring again.
    if (this.wakeAt !== Infinity || this.#packets.used >= this.#most) return true;
    return !this.#ring.finalCheck();
  }

  /** Parses the packet at the head; false ends the batch. */
  #parseOne(prod: number, now: number): boolean {
    const ring = this.#ring;
    const packets = this.#packets;
    const tag = packets.take();
    if (!this.#credit.take(this.#parser.first(tag), now)) {
      packets.give(tag);
      this.wakeAt = this.#credit.nextAt;
      this.#counters[Counter.txCreditWaits]!++;
      return false;
    }
    const verdict = this.#parser.rest(tag, (prod - ring.reqCons) >>> 0);
    if (verdict === TxVerdict.FATAL) {
      packets.give(tag);
      this.#fatal(this.#parser.errno, this.#parser.reason);
      return false;
    }
    if (verdict === TxVerdict.PACKET) {
      this.#counters[Counter.txSlots]! += packets.slots[tag]!;
      this.#pages.add(tag);
      this.#parsed[this.#parsedCount++] = tag;
      return true;
    }
    if (verdict === TxVerdict.DROP) {
      this.#counters[Counter.txDropSlots]!++;
      this.#answerUnsent(tag, NetifRsp.ERROR);
      return false;
    }
    this.#answerUnsent(tag, this.#changeMulticast() ? NetifRsp.OKAY : NetifRsp.ERROR);
    return true;
  }

  #changeMulticast(): boolean {
    const { multicast, multicastAddress } = this.#parser;
    if (multicast === NetifExtraType.MCAST_ADD) return this.#multicast.add(multicastAddress);
    this.#multicast.remove(multicastAddress);
    return true;
  }

  #answerUnsent(tag: number, status: number): void {
    const packets = this.#packets;
    const first = tag * MAX_ANSWERED_SLOTS;
    packets.bad[tag] = 1;
    packets.status.fill(status, first, first + packets.slots[tag]!);
    this.#done[this.#doneCount++] = tag;
  }

  #sendParsed(): void {
    const count = this.#parsedCount;
    if (count === 0) return;
    const pages = this.#pages;
    pages.map();
    let whole = 0;
    for (let i = 0; i < count; i++) {
      const tag = this.#parsed[i]!;
      if (!pages.collect(tag)) {
        this.#markFailed(tag);
        this.#counters[Counter.txDropGrant]!++;
        this.#done[this.#doneCount++] = tag;
      } else if (this.disabled) {
        // After a fatal slot further on, what came before it was honest, but nothing will be answered.
        this.#done[this.#doneCount++] = tag;
      } else {
        pages.addHead(tag, 0, this.#headOf(tag, HEADER_START), tag * TAG_BYTES + FRAME);
        this.#parsed[whole++] = tag;
      }
    }
    pages.copyHeads();
    for (let i = 0; i < whole; i++) this.#send(this.#parsed[i]!);
  }

  /** Bytes of a frame's private copy, if `wanted` are asked for. */
  #headOf(tag: number, wanted: number): number {
    const total = this.#packets.total[tag]!;
    return total < wanted ? total : wanted;
  }

  /** Slots without a handle get ERROR, empty ones apart. */
  #markFailed(tag: number): void {
    const { words, status, slots, bad } = this.#packets;
    bad[tag] = 1;
    for (let i = 0; i < slots[tag]!; i++) {
      const at = tag * TAG_WORDS + i * SLOT_WORDS;
      const failed = words[at + TxSlot.HANDLE] === INVALID_GRANT_HANDLE && words[at + TxSlot.ID_SIZE]! >>> 16 !== 0;
      status[tag * MAX_ANSWERED_SLOTS + i] = failed ? NetifRsp.ERROR : NetifRsp.OKAY;
    }
  }

  /** Builds the packet's virtio-net header and iovecs, and hands it to the link. */
  #send(tag: number): void {
    if (!this.settings.up) {
      this.#counters[Counter.txDropDown]!++;
      this.#done[this.#doneCount++] = tag;
      return;
    }
    const at = tag * TAG_BYTES;
    let copied = this.#headOf(tag, HEADER_START);
    if (!this.#offload.write(this.#packets, tag, at, copied)) {
      // Long headers are rare; a second look costs those who have them.
      if (copied === HEADER_START) copied = this.#copyMore(tag, copied);
      if (!this.#offload.write(this.#packets, tag, at, copied)) {
        // The wire would have lost it; its grants were in order, so the answer is OKAY.
        this.#counters[Counter.txDropHeaders]!++;
        this.#done[this.#doneCount++] = tag;
        return;
      }
    }
    if (this.#capture !== undefined) this.#record(this.#capture, tag, copied);
    const { hva } = this.#arena;
    const plain = copied === this.#packets.total[tag];
    if (this.#parsedCount === 1 && !this.#sink.waits) {
      this.sent(tag, this.#sink.sendNow(hva + at + IOVECS, this.#list(tag, copied)));
    } else if (plain) {
      this.#sink.sendPlain(tag, hva + at, FRAME + copied);
    } else {
      this.#sink.send(tag, hva + at + IOVECS, this.#list(tag, copied));
    }
  }

  /** Lists the private copy, and after it the rest in the guest's pages. Returns how many pieces. */
  #list(tag: number, copied: number): number {
    const at = tag * TAG_BYTES;
    putIovec(this.#arena, at + IOVECS, 0, this.#arena.hva + at, FRAME + copied);
    return 1 + this.#pages.list(tag, copied, ((at + IOVECS) >> 2) + 4);
  }

  /** Goes on with the private copy of a frame's first bytes; returns its length. */
  #copyMore(tag: number, copied: number): number {
    const length = this.#headOf(tag, HEADER_COPY);
    this.#pages.addHead(tag, copied, length, tag * TAG_BYTES + FRAME + copied);
    this.#pages.copyHeads();
    return length;
  }

  /** Copies a frame to the capture as it is sent: headers from the private copy, the rest from the guest's pages. */
  #record(capture: CaptureWriter, tag: number, copied: number): void {
    capture.begin(CaptureDirection.OUTBOUND, this.#packets.total[tag]!);
    capture.add(this.#arena.u8, tag * TAG_BYTES + FRAME, copied);
    this.#pages.record(tag, copied, capture);
    capture.end();
  }

  #collectHandles(tag: number): void {
    const { words, slots } = this.#packets;
    const unmaps = this.#unmaps;
    const first = tag * TAG_WORDS;
    const end = first + slots[tag]! * SLOT_WORDS;
    for (let at = first + TxSlot.HANDLE; at < end; at += SLOT_WORDS) {
      const handle = words[at]!;
      if (handle === INVALID_GRANT_HANDLE) continue;
      unmaps.handle[unmaps.count++] = handle;
      words[at] = INVALID_GRANT_HANDLE;
    }
  }

  /** One response per data slot; each extra slot gets an empty one after the first. */
  #respond(tag: number): void {
    const { words, slots, extras, bad, status } = this.#packets;
    const ring = this.#ring;
    const first = tag * TAG_WORDS;
    const allOkay = bad[tag] === 0;
    const count = slots[tag]!;
    for (let i = 0; i < count; i++) {
      const id = words[first + i * SLOT_WORDS + TxSlot.ID_SIZE]! & 0xffff;
      const answer = allOkay ? NetifRsp.OKAY : status[tag * MAX_ANSWERED_SLOTS + i]!;
      ring.respondWord(id | (answer << 16));
      if (i > 0) continue;
      for (let extra = extras[tag]!; extra > 0; extra--) ring.respondWord(NetifRsp.NULL << 16);
    }
  }

  #fatal(errno: number, reason: string): void {
    this.disabled = true;
    this.errno = errno;
    this.reason = reason;
  }
}
