/**
 * One end of the wire protocol: takes requests, leaves replies and events in its outbox. A transport (ring, socket)
 * carries the bytes.
 */
import { XENSTORE_PAYLOAD_MAX, XsType, type WireError } from '../abi/io/xs_wire.js';
import type { Log } from '../observe/log.js';
import type { Clock } from './clock.js';
import { Outstanding, type Domain } from './domain.js';
import type { Message } from './message.js';
import { Outbox } from './outbox.js';
import { canonical, homeOf } from './path.js';
import type { Caller } from './permission.js';
import { requests } from './requests.js';
import type { Store } from './store.js';
import type { Toolstack } from './toolstack.js';
import type { Transaction } from './transaction.js';
import type { Watch, Watcher } from './watch.js';
import type { WriteRate } from './write-rate.js';

/** What all connections share. */
export interface Shared {
  readonly store: Store;
  readonly clock: Clock;
  readonly rate: WriteRate;
  readonly toolstack: Toolstack;
  readonly log: Log;
}

/** An event its reader leaves lying so long is dropped (xenstored's watch-event timeout). */
export const EVENT_TIMEOUT_MS = 20_000;

export class Connection implements Watcher {
  readonly domain: Domain;
  readonly outbox: Outbox;
  /** Where relative paths start. */
  readonly home: string;
  /** By path and token. */
  readonly watches = new Map<string, Watch>();
  readonly transactions = new Map<number, Transaction>();
  #lastTransaction = 0;

  /** @param queued called when an event has been put into the outbox */
  constructor(
    readonly shared: Shared,
    public caller: Caller,
    readonly queued: () => void,
  ) {
    this.domain = shared.store.domain(caller.domid);
    this.outbox = new Outbox(this.domain, caller.privileged ? undefined : EVENT_TIMEOUT_MS);
    this.home = homeOf(caller.domid);
  }

  /** Carries out a request; its reply and whatever it caused for this connection go to the outbox. */
  handle({ type, reqId, txId, payload }: Message): void {
    const outstanding = this.caller.privileged ? undefined : new Outstanding(this.domain);
    const answer = this.#guarded(type, txId, payload, outstanding);
    if (typeof answer === 'string') {
      this.outbox.reply(XsType.ERROR, reqId, txId, `${answer}\0`, outstanding);
    } else if (answer.payload.length > XENSTORE_PAYLOAD_MAX) {
      this.outbox.reply(XsType.ERROR, reqId, txId, 'E2BIG\0', outstanding);
    } else {
      this.outbox.reply(type, reqId, txId, answer.payload, outstanding);
      answer.after?.();
    }
  }

  event(path: string, token: string, cause: Outstanding | undefined): void {
    this.outbox.event(path, token, cause, this.shared.clock.now());
    this.queued();
  }

  /** Absolute form of a path a client sent. */
  resolve(path: string, specialAllowed = false): string | undefined {
    const longest = this.caller.privileged ? 0 : this.domain.quotas['path-max'];
    return canonical(path, this.home, specialAllowed, longest);
  }

  /** An unused transaction id; 0 means "none" and is never given. */
  nextTransactionId(): number {
    do this.#lastTransaction = (this.#lastTransaction + 1) >>> 0;
    while (this.#lastTransaction === 0 || this.transactions.has(this.#lastTransaction));
    return this.#lastTransaction;
  }

  /** RESET_WATCHES: as if the client had just connected, but replies on their way still arrive. */
  forgetClient(): void {
    for (const watch of this.watches.values()) {
      this.shared.store.watches.remove(watch);
      this.domain.addMemory(-watchSize(watch));
    }
    this.domain.watches -= this.watches.size;
    this.watches.clear();
    for (const transaction of this.transactions.values()) transaction.abort();
    this.transactions.clear();
  }

  /** Drops everything, unread messages too. */
  reset(): void {
    this.forgetClient();
    this.outbox.clear();
  }

  /** A failure of our own is EIO for this client; nobody else is to suffer from it. */
  #guarded(type: number, txId: number, payload: Buffer, cause: Outstanding | undefined): Answer | WireError {
    try {
      return this.#answer(type, txId, payload, cause);
    } catch (error) {
      this.shared.log.error({ err: error, domid: this.caller.domid, type }, 'xenstore request failed');
      return 'EIO';
    }
  }

  #answer(type: number, txId: number, payload: Buffer, cause: Outstanding | undefined): Answer | WireError {
    const request = requests.get(type);
    if (request === undefined) return 'ENOSYS';
    if (request.privileged === true && !this.caller.privileged) return 'EACCES';
    const inside = txId !== 0 && request.outsideTransactions !== true;
    const transaction = inside ? this.transactions.get(txId) : undefined;
    if (inside && transaction === undefined) return 'ENOENT';
    const view = transaction ?? this.shared.store;
    const context = { view, caller: this.caller, domain: this.domain, cause };
    const answer = request.run({ connection: this, payload, transaction, txId, context });
    const debited = request.writes === true && transaction === undefined && !this.caller.privileged;
    if (debited && typeof answer !== 'string') this.shared.rate.debit(this.caller.domid);
    return answer;
  }
}

/** A reply that is not an error. */
export interface Answer {
  /** latin1 */
  readonly payload: string;
  /** What follows once the reply is queued. */
  readonly after?: () => void;
}

/** Bytes a watch is charged for. */
export function watchSize(watch: Watch): number {
  return watch.path.length + watch.token.length;
}
