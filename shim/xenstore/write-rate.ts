/**
 * How fast guests may write while transactions are open: a guest that keeps changing nodes could make everybody else's
 * transactions fail for ever. xenstored's scheme: 200 writes a second shared by all guests, bursts of 10 each, and a
 * common reserve of what they did not use. Writes that can disturb no transaction are free.
 */
import type { Clock } from './clock.js';
import type { Store } from './store.js';

const RATE_PER_MS = 200 / 1000;
const BURST = 10;
const RESERVE = 1000;
/** How far the reserve may be overdrawn so that new guests start with a burst. */
const NEW_GUESTS = 5 * BURST;

interface Account {
  credit: number;
  stamp: number;
}

export class WriteRate {
  readonly #accounts = new Map<number, Account>();
  #reserve = 0;

  constructor(
    readonly store: Store,
    readonly clock: Clock,
  ) {}

  /** A guest's write took effect. */
  debit(domid: number): void {
    if (this.store.openTransactions === 0) return;
    this.#account(domid).credit--;
  }

  /** ms until the guest's next request may be read; 0 = now. */
  delay(domid: number): number {
    if (!this.#accounts.has(domid)) return 0;
    const { credit } = this.#account(domid);
    return credit >= 0 ? 0 : Math.ceil(-credit / this.#share);
  }

  forget(domid: number): void {
    const account = this.#accounts.get(domid);
    if (account !== undefined && account.credit > 0) this.#reserve = Math.min(this.#reserve + account.credit, RESERVE);
    this.#accounts.delete(domid);
  }

  get #share(): number {
    return RATE_PER_MS / Math.max(1, this.store.guests);
  }

  #account(domid: number): Account {
    const now = this.clock.now();
    let account = this.#accounts.get(domid);
    if (account === undefined) {
      const credit = Math.max(0, Math.min(BURST, this.#reserve + NEW_GUESTS));
      this.#reserve -= credit;
      this.#accounts.set(domid, (account = { credit, stamp: now }));
    }
    account.credit += (now - account.stamp) * this.#share;
    account.stamp = now;
    if (account.credit < 0 && this.#reserve > 0) {
      const lent = Math.min(-account.credit, this.#reserve);
      account.credit += lent;
      this.#reserve -= lent;
    }
    if (account.credit > BURST) {
      this.#reserve = Math.min(this.#reserve + account.credit - BURST, RESERVE);
      account.credit = BURST;
    }
    return account;
  }
}
