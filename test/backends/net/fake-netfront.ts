/**
 * A network frontend without a guest: rings and buffers in a memfd of its own, grants in a real grant table, doorbells
 * that are eventfds. Misbehaves on demand, since everything it writes is a plain word in memory.
 */
import { native } from '../../../kvm/native.js';
import { NETIF_EXTRA_FLAG_MORE, NETIF_RING_SIZE, NetifExtraType, NetTxFlag } from '../../../shim/abi/io/netif.js';
import { Sring } from '../../../shim/abi/io/ring.js';
import type { Patience } from '../../../shim/grant-table/settle.js';
import { createGrantState } from '../../../shim/grant-table/state.js';
import { attachGuest } from '../../../shim/memory/attach.js';
import type { AttachedGuest, GuestHandles } from '../../../shim/memory/attach.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';

export const DOMID = 1;
const RAM_PAGES = 1024;
const OWN_PAGES = 8;
const FIRST_OWN_PAGE = 2;

const TX_GFN = 1;
const RX_GFN = 2;
export const TX_REF = 8;
export const RX_REF = 9;
/** Transmit buffer i: gref TX_BUFFER_REF + i on frame TX_BUFFER_GFN + i. */
export const TX_BUFFER_REF = 16;
const TX_BUFFER_GFN = 16;
export const TX_BUFFERS = 200;
export const RX_BUFFER_REF = 224;
const RX_BUFFER_GFN = 256;
export const RX_BUFFERS = 256;
/** Rings of queue n > 0: grefs QUEUE_REF + 2n and the next, on frames 2n + 3 and the next. */
const QUEUE_REF = 480;
export const CTRL_REF = 500;
const CTRL_GFN = 3;
export const MAX_QUEUES = 4;

const PERMIT = 1;
export const READONLY = 4;
/** GTF_reading and GTF_writing: the backend still has the page. */
const IN_USE = 24;

export interface TxSlot {
  gref: number;
  offset?: number;
  flags?: number;
  id?: number;
  size: number;
}

export interface Extra {
  type: number;
  flags?: number;
  /** The six bytes after type and flags. */
  body?: readonly number[];
}

export interface TxResponse {
  id: number;
  status: number;
}

export interface RxFragment {
  id: number;
  offset: number;
  flags: number;
  status: number;
}

const slotAt = (index: number, stride: number): number => Sring.ring + (index & (NETIF_RING_SIZE - 1)) * stride;

class FrontRing {
  prod = 0;
  cons = 0;
  #pushed = 0;

  constructor(
    readonly view: DataView,
    readonly stride: number,
  ) {
    view.setUint32(Sring.req_event, 1, true);
    view.setUint32(Sring.rsp_event, 1, true);
  }

  slot(index: number): number {
    return slotAt(index, this.stride);
  }

  /** Publishes requests; true if the backend asked to be told. */
  push(): boolean {
    this.view.setUint32(Sring.req_prod, this.prod, true);
    const event = this.view.getUint32(Sring.req_event, true);
    const told = (this.prod - event) >>> 0 < (this.prod - this.#pushed) >>> 0;
    this.#pushed = this.prod;
    return told;
  }

  get responses(): number {
    return this.view.getUint32(Sring.rsp_prod, true);
  }

  /** Asks to be told of the next response. */
  expect(): void {
    this.view.setUint32(Sring.rsp_event, (this.cons + 1) >>> 0, true);
  }
}

/** Where a queue keeps its rings and buffers. */
interface QueueParts {
  readonly ram: Uint8Array;
  readonly txGfn: number;
  readonly rxGfn: number;
  /** First of its transmit buffers and how many; the same for receive buffers. */
  readonly txBuffers: readonly [number, number];
  readonly rxBuffers: readonly [number, number];
}

const pageOf = (ram: Uint8Array, gfn: number): DataView => new DataView(ram.buffer, gfn * PAGE_SIZE, PAGE_SIZE);

/** One transmit and one receive ring. */
export class FrontQueue {
  tx: FrontRing;
  rx: FrontRing;
  /** EVTCHNOP_send, for either ring. */
  kick: () => void;
  readonly ram: Uint8Array;
  readonly #parts: QueueParts;
  #nextTxBuffer = 0;
  #nextId = 0;

  constructor(parts: QueueParts, kick: () => void) {
    this.#parts = parts;
    this.ram = parts.ram;
    this.kick = kick;
    this.tx = new FrontRing(pageOf(parts.ram, parts.txGfn), 12);
    this.rx = new FrontRing(pageOf(parts.ram, parts.rxGfn), 8);
  }

  /** Begins anew with empty rings, as a driver does after a close. */
  reset(): void {
    const { ram, txGfn, rxGfn } = this.#parts;
    for (const gfn of [txGfn, rxGfn]) new Uint8Array(ram.buffer, gfn * PAGE_SIZE, PAGE_SIZE).fill(0);
    this.tx = new FrontRing(pageOf(ram, txGfn), 12);
    this.rx = new FrontRing(pageOf(ram, rxGfn), 8);
  }

  /** The bytes of a transmit buffer's page. */
  txBuffer(i: number): Uint8Array {
    return this.ram.subarray((TX_BUFFER_GFN + i) * PAGE_SIZE, (TX_BUFFER_GFN + i + 1) * PAGE_SIZE);
  }

  /** The frame of a transmit buffer. */
  txBufferGfn(i: number): number {
    return TX_BUFFER_GFN + i;
  }

  rxBuffer(i: number): Uint8Array {
    return this.ram.subarray((RX_BUFFER_GFN + i) * PAGE_SIZE, (RX_BUFFER_GFN + i + 1) * PAGE_SIZE);
  }

  /** Writes one slot as it is; publishes nothing. */
  putTx({ gref, offset = 0, flags = 0, id = this.#nextId++ & 0xffff, size }: TxSlot): number {
    const at = this.tx.slot(this.tx.prod++);
    const { view } = this.tx;
    view.setUint32(at, gref, true);
    view.setUint16(at + 4, offset, true);
    view.setUint16(at + 6, flags, true);
    view.setUint16(at + 8, id, true);
    view.setUint16(at + 10, size, true);
    return id;
  }

  putExtra({ type, flags = 0, body = [] }: Extra): void {
    const at = this.tx.slot(this.tx.prod++);
    const { view } = this.tx;
    for (let i = 0; i < 12; i++) view.setUint8(at + i, 0);
    view.setUint8(at, type);
    view.setUint8(at + 1, flags);
    body.forEach((byte, i) => {
      view.setUint8(at + 2 + i, byte);
    });
  }

  /** Kicks the backend if it asked for it, or always. */
  pushTx(always = false): void {
    if (this.tx.push() || always) this.kick();
  }

  /**
   * Sends a frame cut into pieces of the given sizes, one slot each, as a well-behaved frontend does. Sizes need not
   * add up: what is left is the last slot's. Returns the ids of its data slots.
   */
  send(frame: Uint8Array, options: { sizes?: readonly number[]; flags?: number; extras?: readonly Extra[] } = {}): number[] {
    const { sizes = pagesOf(frame.length), flags = 0, extras = [] } = options;
    const ids: number[] = [];
    let done = 0;
    sizes.forEach((size, i) => {
      const [firstBuffer, buffers] = this.#parts.txBuffers;
      const buffer = firstBuffer + (this.#nextTxBuffer++ % buffers);
      const offset = Math.min(64, PAGE_SIZE - size);
      this.txBuffer(buffer).set(frame.subarray(done, done + size), offset);
      done += size;
      ids.push(
        this.putTx({
          gref: TX_BUFFER_REF + buffer,
          offset,
          size: i === 0 ? frame.length : size,
          flags:
            (i < sizes.length - 1 ? NetTxFlag.more_data : 0) |
            (i === 0 ? flags | (extras.length > 0 ? NetTxFlag.extra_info : 0) : 0),
        }),
      );
      if (i > 0) return;
      extras.forEach((extra, e) => {
        this.putExtra({ ...extra, flags: extra.flags ?? (e < extras.length - 1 ? NETIF_EXTRA_FLAG_MORE : 0) });
      });
    });
    this.pushTx();
    return ids;
  }

  txResponses(): TxResponse[] {
    const { view, responses } = this.tx;
    const found: TxResponse[] = [];
    for (; this.tx.cons !== responses; this.tx.cons = (this.tx.cons + 1) >>> 0) {
      const at = this.tx.slot(this.tx.cons);
      found.push({ id: view.getUint16(at, true), status: view.getInt16(at + 2, true) });
    }
    return found;
  }

  /** Posts receive buffers; request n uses the queue's n-th buffer, round and round, and its number as the id, unless told otherwise. */
  postRx(count: number, gref?: number): void {
    for (let i = 0; i < count; i++) {
      const index = this.rx.prod++;
      const at = this.rx.slot(index);
      const [firstBuffer, buffers] = this.#parts.rxBuffers;
      const buffer = firstBuffer + (index % buffers);
      this.rx.view.setUint16(at, buffer, true);
      this.rx.view.setUint16(at + 2, 0, true);
      this.rx.view.setUint32(at + 4, gref ?? RX_BUFFER_REF + buffer, true);
    }
    if (this.rx.push()) this.kick();
  }

  /** Responses since the last call, extras as fragments of the bytes they are. */
  rxResponses(): RxFragment[] {
    const { view, responses } = this.rx;
    const found: RxFragment[] = [];
    for (; this.rx.cons !== responses; this.rx.cons = (this.rx.cons + 1) >>> 0) {
      const at = this.rx.slot(this.rx.cons);
      found.push({
        id: view.getUint16(at, true),
        offset: view.getUint16(at + 2, true),
        flags: view.getUint16(at + 4, true),
        status: view.getInt16(at + 6, true),
      });
    }
    return found;
  }
}

/** Grants of the transmit and the receive ring of a queue. */
export const queueRefs = (queue: number): [number, number] =>
  queue === 0 ? [TX_REF, RX_REF] : [QUEUE_REF + 2 * queue, QUEUE_REF + 2 * queue + 1];

export class FakeNetfront extends FrontQueue {
  readonly handles: GuestHandles;
  readonly guest: AttachedGuest;
  /** All queues, this one the first. */
  readonly queues: readonly FrontQueue[];
  readonly kickFd: number;
  readonly callFd = native.eventfd();
  readonly #entries: DataView;

  /**
   * @param count queues, which share the buffers evenly
   * @param patience of the backend's grants with pages that are paged out
   */
  constructor(count = 1, patience: Patience | null = null) {
    const handles: GuestHandles = {
      ram: [{ fd: native.memfd('netfront-ram', RAM_PAGES * PAGE_SIZE), offset: 0, gfn: 0, pages: RAM_PAGES }],
      own: { fd: native.memfd('netfront-own', OWN_PAGES * PAGE_SIZE), pages: OWN_PAGES },
      grants: createGrantState({ maxFrames: 4, maxMaptrackFrames: 16, ownPages: OWN_PAGES, firstOwnPage: FIRST_OWN_PAGE }),
      domid: DOMID,
    };
    const guest = attachGuest(handles, patience);
    const ram = guest.memory.window(0)!.u8;
    const kickFd = native.eventfd();
    const share = (all: number, i: number): [number, number] => [Math.floor(all / count) * i, Math.floor(all / count)];
    const parts = (i: number): QueueParts => ({
      ram, txGfn: i === 0 ? TX_GFN : 2 * i + 3, rxGfn: i === 0 ? RX_GFN : 2 * i + 4,
      txBuffers: share(TX_BUFFERS, i), rxBuffers: share(RX_BUFFERS, i),
    });
    const kick = (): void => {
      native.eventfdSignal(kickFd);
    };
    super(parts(0), kick);
    this.handles = handles;
    this.guest = guest;
    this.kickFd = kickFd;
    this.queues = [this, ...Array.from({ length: count - 1 }, (_, i) => new FrontQueue(parts(i + 1), kick))];
    this.#entries = new DataView(this.guest.own.view.buffer, FIRST_OWN_PAGE * PAGE_SIZE, PAGE_SIZE);
    for (let i = 0; i < count; i++) {
      const [tx, rx] = queueRefs(i);
      this.grant(tx, parts(i).txGfn);
      this.grant(rx, parts(i).rxGfn);
    }
    this.grant(CTRL_REF, CTRL_GFN);
    for (let i = 0; i < TX_BUFFERS; i++) this.grant(TX_BUFFER_REF + i, TX_BUFFER_GFN + i, READONLY);
    for (let i = 0; i < RX_BUFFERS; i++) this.grant(RX_BUFFER_REF + i, RX_BUFFER_GFN + i);
  }

  page(gfn: number): DataView {
    return pageOf(this.ram, gfn);
  }

  /** The control ring's page. */
  get control(): DataView {
    return this.page(CTRL_GFN);
  }

  /** Writes a grant entry as a guest does; `flags` are added to GTF_permit_access. */
  grant(ref: number, gfn: number, flags = 0): void {
    this.#entries.setUint32(ref * 8 + 4, gfn, true);
    this.#entries.setUint16(ref * 8 + 2, 0, true);
    this.#entries.setUint16(ref * 8, PERMIT | flags, true);
  }

  revoke(ref: number): void {
    this.#entries.setUint16(ref * 8, 0, true);
  }

  /** Grants the backend has not let go of, the ring pages left out. */
  inUse(): number[] {
    const refs: number[] = [];
    for (let ref = TX_BUFFER_REF; ref < RX_BUFFER_REF + RX_BUFFERS; ref++) {
      if ((this.#entries.getUint16(ref * 8, true) & IN_USE) !== 0) refs.push(ref);
    }
    return refs;
  }

  ringsInUse(): boolean {
    return this.queues.flatMap((_, i) => queueRefs(i)).some((ref) => (this.#entries.getUint16(ref * 8, true) & IN_USE) !== 0);
  }

  /** Events the backend has raised since the last call. */
  rung(): number {
    return native.eventfdDrain(this.callFd);
  }

  close(): void {
    this.guest.detach();
    for (const fd of [this.handles.own.fd, this.handles.ram[0]!.fd, this.kickFd, this.callFd]) native.closeFd(fd);
  }
}

/** Sizes of the slots a frame fills page by page. */
export function pagesOf(length: number): number[] {
  const sizes: number[] = [];
  for (let left = length; left > 0; left -= PAGE_SIZE) sizes.push(Math.min(left, PAGE_SIZE));
  return sizes;
}

export const gsoExtra = (size: number, type = 1): Extra => ({
  type: NetifExtraType.GSO,
  body: [size & 0xff, size >> 8, type, 0, 0, 0],
});
