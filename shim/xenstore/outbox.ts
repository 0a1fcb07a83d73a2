/** Replies and watch events on their way to one connection, oldest first, charged to its domain until they are gone. */
import { XENSTORE_PAYLOAD_MAX, XsType } from '../abi/io/xs_wire.js';
import type { Domain, Outstanding } from './domain.js';
import { encode } from './message.js';
import { isSpecial } from './path.js';

interface Entry {
  readonly bytes: Buffer;
  /** Of events: what makes two of them the same. */
  readonly key: string | undefined;
  /** The request answered, or the one that caused the event. */
  readonly request: Outstanding | undefined;
  /** When the event is given up, in ms of the clock. */
  readonly deadline: number;
}

/** Charged per message beside its bytes, so that a flood of tiny events is not underestimated. */
const ENTRY_BYTES = 128;

export class Outbox {
  #entries: Entry[] = [];
  readonly #pending = new Set<string>();
  /** Bytes of the oldest message that are out already. */
  sent = 0;
  /** Bytes waiting. */
  size = 0;

  constructor(
    readonly domain: Domain,
    /** Age in ms at which an unread event is dropped; undefined keeps it. */
    readonly eventTimeout: number | undefined,
  ) {}

  get length(): number {
    return this.#entries.length;
  }

  reply(type: number, reqId: number, txId: number, payload: string, request: Outstanding | undefined): void {
    this.#push({ bytes: encode(type, reqId, txId, payload), key: undefined, request, deadline: Infinity });
  }

  /**
   * Queues a watch event, unless the same one is waiting still, or it does not fit a message or the domain's memory.
   * Special names are excluded from merging: each release of a domain counts.
   */
  event(path: string, token: string, cause: Outstanding | undefined, now: number): void {
    const payload = `${path}\0${token}\0`;
    if (payload.length > XENSTORE_PAYLOAD_MAX || this.#pending.has(payload)) return;
    if (!this.domain.hasMemoryFor(payload.length + ENTRY_BYTES) && this.eventTimeout !== undefined) return;
    const deadline = this.eventTimeout === undefined ? Infinity : now + this.eventTimeout;
    const key = isSpecial(path) ? undefined : payload;
    if (key !== undefined) this.#pending.add(key);
    cause?.hold();
    this.#push({ bytes: encode(XsType.WATCH_EVENT, 0, 0, payload), key, request: cause, deadline });
  }

  /** The oldest message. */
  head(): Buffer | undefined {
    return this.#entries[0]?.bytes;
  }

  /** The oldest message is out. */
  shift(): void {
    const entry = this.#entries.shift();
    this.sent = 0;
    if (entry !== undefined) this.#discard(entry);
  }

  /** Drops events past their deadline, but not one that is partly out. Returns the next deadline, or Infinity. */
  expire(now: number): number {
    const kept: Entry[] = [];
    const late: Entry[] = [];
    let next = Infinity;
    for (const [i, entry] of this.#entries.entries()) {
      if (entry.deadline <= now && !(i === 0 && this.sent > 0)) late.push(entry);
      else {
        kept.push(entry);
        if (entry.deadline > now) next = Math.min(next, entry.deadline);
      }
    }
    this.#entries = kept;
    for (const entry of late) this.#discard(entry);
    return next;
  }

  clear(): void {
    const gone = this.#entries;
    this.#entries = [];
    this.sent = 0;
    for (const entry of gone) this.#discard(entry);
  }

  #push(entry: Entry): void {
    this.#entries.push(entry);
    this.size += entry.bytes.length;
    this.domain.addMemory(entry.bytes.length + ENTRY_BYTES);
  }

  #discard({ bytes, key, request }: Entry): void {
    if (key !== undefined) this.#pending.delete(key);
    this.size -= bytes.length;
    request?.release();
    this.domain.addMemory(-(bytes.length + ENTRY_BYTES));
  }
}
