/**
 * A guest's connection over its shared page: two rings of 1024 bytes (docs/misc/xenstore-ring.txt). The four indices
 * are the page's own, as in xenstored: firmware that used the rings before the kernel wipes the page when it leaves
 * (hvmloader), and private copies would be out of step for ever. Each is loaded once per pass and checked; a guest that
 * lies about the ones that are ours harms itself alone.
 */
import {
  ConnectionState,
  RingError,
  ServerFeature,
  SockMsg,
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_RING_SIZE,
  XenstoreInterface as Page,
} from '../abi/io/xs_wire.js';
import { Connection, type Shared } from './connection.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import { SOFT_MEMORY } from './quota.js';

/** Where the page is in this process. */
export interface RingPage {
  readonly u8: Uint8Array;
  /** Byte offset of the page in `u8`. */
  readonly offset: number;
}

/** Steps (a part of a message taken in, or output moved) of one pass before others get their turn. */
const STEPS_PER_PASS = 64;

const REQ_CONS = Page.req_cons / 4;
const REQ_PROD = Page.req_prod / 4;
const RSP_CONS = Page.rsp_cons / 4;
const RSP_PROD = Page.rsp_prod / 4;
const MASK = XENSTORE_RING_SIZE - 1;

export class RingConnection {
  readonly connection: Connection;
  readonly #shared: Shared;
  readonly #u8: Uint8Array;
  readonly #words: Int32Array;
  readonly #notify: () => void;
  /** Header and payload of the request being received. */
  readonly #input = Buffer.alloc(SockMsg.SIZE + XENSTORE_PAYLOAD_MAX);
  #received = 0;
  #dead = false;
  #closed = false;
  #serving = false;
  /** Input was left lying although there may be some. */
  #stalled = false;
  #moved = false;
  #warned = false;
  #pass: (() => void) | undefined;
  #wait: (() => void) | undefined;
  #expiry: (() => void) | undefined;

  /** @param notify signals the guest's port */
  constructor(shared: Shared, domid: number, page: RingPage, notify: () => void) {
    this.#shared = shared;
    this.#u8 = page.u8.subarray(page.offset, page.offset + PAGE_SIZE);
    this.#words = new Int32Array(this.#u8.buffer, this.#u8.byteOffset, PAGE_SIZE / 4);
    this.#notify = notify;
    const caller = { domid, privileged: false, target: undefined };
    this.connection = new Connection(shared, caller, () => this.#soon());
    this.connection.domain.relieved = () => {
      if (this.#stalled) this.#soon();
    };
  }

  /** Whether a protocol violation has ended the connection (until the guest asks for a new one). */
  get dead(): boolean {
    return this.#dead;
  }

  /** Starts afresh, as after a guest's reset: empty rings, no watches, no transactions. */
  reset(): void {
    this.connection.reset();
    this.#received = 0;
    this.#dead = false;
    for (const index of [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD]) this.#store(index, 0);
    this.#store(Page.error / 4, RingError.NONE);
    this.#store(Page.server_features / 4, ServerFeature.RECONNECTION | ServerFeature.ERROR);
    this.#store(Page.connection / 4, ConnectionState.CONNECTED);
  }

  /** Call when the guest has signalled: takes in requests, puts out replies and events. */
  serve(): void {
    if (this.#closed) return;
    if (this.#serving) return this.#soon();
    this.#pass?.();
    this.#pass = undefined;
    this.#serving = true;
    try {
      this.#moved = false;
      if (this.#load(Page.connection / 4) === ConnectionState.RECONNECT) {
        this.reset();
        this.#moved = true;
      }
      let steps = STEPS_PER_PASS;
      while (!this.#dead && steps > 0 && this.#step()) steps--;
      if (steps === 0) this.#soon();
      if (this.#moved) this.#notify();
    } finally {
      this.#serving = false;
    }
    this.#armExpiry();
    this.#warnOnce();
  }

  /** Ends the connection; the page is not touched any more. */
  close(): void {
    this.#closed = true;
    this.connection.domain.relieved = undefined;
    for (const cancel of [this.#pass, this.#wait, this.#expiry]) cancel?.();
    this.connection.reset();
  }

  #step(): boolean {
    const out = this.#flush();
    return (!this.#dead && this.#receive()) || out;
  }

  /** Takes in what is there of one request, and handles it if that completes it. False if nothing was taken. */
  #receive(): boolean {
    this.#stalled = this.#mustWait();
    if (this.#stalled) return false;
    const cons = this.#load(REQ_CONS);
    const available = (this.#load(REQ_PROD) - cons) >>> 0;
    if (available > XENSTORE_RING_SIZE) return this.#fail(RingError.RINGIDX);
    if (available === 0) return false;
    let used = this.#take(cons, 0, available, SockMsg.SIZE);
    if (this.#received >= SockMsg.SIZE) {
      const length = this.#input.readUInt32LE(SockMsg.len);
      if (length > XENSTORE_PAYLOAD_MAX) return this.#fail(RingError.PROTO);
      used += this.#take(cons, used, available, SockMsg.SIZE + length);
    }
    this.#store(REQ_CONS, cons + used);
    this.#moved = true;
    this.#handleIfComplete();
    return true;
  }

  /** Copies from the request ring until `target` bytes of the request are here; returns how many were copied. */
  #take(cons: number, used: number, available: number, target: number): number {
    const count = Math.max(0, Math.min(target - this.#received, available - used));
    const at = (cons + used) & MASK;
    const first = Math.min(count, XENSTORE_RING_SIZE - at);
    this.#input.set(this.#u8.subarray(Page.req + at, Page.req + at + first), this.#received);
    this.#input.set(this.#u8.subarray(Page.req, Page.req + count - first), this.#received + first);
    this.#received += count;
    return count;
  }

  #handleIfComplete(): void {
    if (this.#received < SockMsg.SIZE) return;
    const end = SockMsg.SIZE + this.#input.readUInt32LE(SockMsg.len);
    if (this.#received < end) return;
    this.#received = 0;
    this.connection.handle({
      type: this.#input.readUInt32LE(SockMsg.type),
      reqId: this.#input.readUInt32LE(SockMsg.req_id),
      txId: this.#input.readUInt32LE(SockMsg.tx_id),
      payload: this.#input.subarray(SockMsg.SIZE, end),
    });
  }

  /** Writes as much of the outbox as the response ring takes. */
  #flush(): boolean {
    const { outbox } = this.connection;
    let moved = false;
    for (let head = outbox.head(); head !== undefined; head = outbox.head()) {
      const prod = this.#load(RSP_PROD);
      const used = (prod - this.#load(RSP_CONS)) >>> 0;
      if (used > XENSTORE_RING_SIZE) return this.#fail(RingError.RINGIDX);
      const count = Math.min(XENSTORE_RING_SIZE - used, head.length - outbox.sent);
      if (count === 0) break;
      const at = prod & MASK;
      const first = Math.min(count, XENSTORE_RING_SIZE - at);
      this.#u8.set(head.subarray(outbox.sent, outbox.sent + first), Page.rsp + at);
      this.#u8.set(head.subarray(outbox.sent + first, outbox.sent + count), Page.rsp);
      this.#store(RSP_PROD, prod + count);
      this.#moved = moved = true;
      outbox.sent += count;
      if (outbox.sent === head.length) outbox.shift();
    }
    return moved;
  }

  /** Unread replies and events, memory, write rate: reasons to leave the guest's requests where they are. */
  #mustWait(): boolean {
    if (this.connection.domain.stalled) return true;
    const delay = this.#shared.rate.delay(this.connection.domain.domid);
    if (delay === 0) return false;
    this.#wait ??= this.#shared.clock.after(delay, () => {
      this.#wait = undefined;
      this.serve();
    });
    return true;
  }

  /** The connection is not usable any more; says why in the page. Nobody else notices. */
  #fail(error: number): false {
    this.#dead = true;
    this.#moved = true;
    this.#received = 0;
    this.connection.reset();
    this.#store(Page.error / 4, error);
    const { domid } = this.connection.domain;
    this.#shared.log.warn({ domid, error }, 'guest broke the xenstore ring protocol; its connection is ignored');
    return false;
  }

  #warnOnce(): void {
    const { domid, memory } = this.connection.domain;
    if (this.#warned || memory <= SOFT_MEMORY) return;
    this.#warned = true;
    this.#shared.log.warn({ domid, memory }, 'guest uses much xenstore memory');
  }

  #soon(): void {
    if (this.#closed) return;
    this.#pass ??= this.#shared.clock.after(0, () => {
      this.#pass = undefined;
      this.serve();
    });
  }

  #armExpiry(): void {
    if (this.#expiry !== undefined || this.connection.outbox.length === 0) return;
    const { clock } = this.#shared;
    const next = this.connection.outbox.expire(clock.now());
    if (next === Infinity) return;
    this.#expiry = clock.after(next - clock.now(), () => {
      this.#expiry = undefined;
      this.#armExpiry();
    });
  }

  #load(word: number): number {
    return Atomics.load(this.#words, word) >>> 0;
  }

  #store(word: number, value: number): void {
    Atomics.store(this.#words, word, value | 0);
  }
}
