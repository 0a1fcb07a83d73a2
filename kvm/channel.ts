/**
 * Messages with the plugin's service thread: requests that wait for their reply, one-way requests, and what the plugin
 * says of its own accord, which is kept in order and handed out by `drain`.
 */
import { constants } from 'node:os';
import { BridgeClosed, KvmError } from './bridge.js';
import { native } from './native.js';
import { layout, Op } from './native-bridge-protocol.js';

const { message: at } = layout;
/** A request the plugin has not answered after this long means it is gone or stuck. Milliseconds. */
const REPLY_TIMEOUT = 10_000;
/** What sending says when nobody holds the other end. */
const GONE = new Set([constants.errno.EPIPE, constants.errno.ECONNRESET]);

/** A message from the plugin. */
export interface Notice {
  readonly op: number;
  readonly arg: BigUint64Array;
  /** A descriptor that came along, or -1. Whoever handles the notice owns it. */
  readonly fd: number;
  readonly text: string;
}

export class Channel {
  readonly #fd: number;
  readonly #out = new Uint8Array(at.SIZE);
  readonly #outView = new DataView(this.#out.buffer);
  readonly #in = new Uint8Array(at.SIZE);
  readonly #inView = new DataView(this.#in.buffer);
  readonly #notices: Notice[] = [];
  readonly #left: () => void;
  #seq = 0;
  #ended = false;
  #closed = false;

  /** @param left called in a turn of its own when a reply was waited for and notices that came before it remain */
  constructor(fd: number, left: () => void) {
    this.#fd = fd;
    this.#left = left;
  }

  /** Everything the plugin has sent has been taken in, and there will be no more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Sends and does not wait. */
  post(op: number, args: readonly (number | bigint)[] = [], fds: readonly number[] = []): void {
    if (this.#closed) throw new BridgeClosed('the bridge has been closed');
    this.#out.fill(0);
    this.#outView.setUint32(at.op, op, true);
    this.#seq = (this.#seq + 1) >>> 0;
    this.#outView.setUint32(at.seq, this.#seq, true);
    args.forEach((arg, i) => this.#outView.setBigUint64(at.arg + 8 * i, BigInt.asUintN(64, BigInt(arg)), true));
    try {
      native.channelSend(this.#fd, this.#out, fds);
    } catch (error) {
      if (!GONE.has((error as { errno?: number }).errno ?? 0)) throw error;
      throw new BridgeClosed('the plugin is gone');
    }
  }

  /**
   * Sends a request and waits for its reply; returns the reply's words.
   * @throws KvmError, BridgeClosed
   */
  call(name: string, op: number, args: readonly (number | bigint)[], fds: readonly number[] = []): BigUint64Array {
    this.post(op, args, fds);
    const seq = this.#seq;
    try {
      return this.#reply(name, seq);
    } finally {
      // They have been taken off the socket, so that it no longer asks to be read.
      if (this.#notices.length > 0) setImmediate(this.#left);
    }
  }

  #reply(name: string, seq: number): BigUint64Array {
    for (;;) {
      if (!this.#receive(REPLY_TIMEOUT)) throw new BridgeClosed(`the plugin did not answer ${name}`);
      const notice = this.#notices.at(-1)!;
      if (notice.op !== Op.Reply) continue;
      this.#notices.pop();
      if (this.#inView.getUint32(at.seq, true) !== seq) continue;
      const result = Number(this.#inView.getBigInt64(at.result, true));
      if (result < 0) throw new KvmError(name, -result);
      return notice.arg;
    }
  }

  /** Takes in what has arrived without waiting, and returns all notices so far, oldest first. */
  drain(): Notice[] {
    while (this.#receive(0));
    return this.#notices.splice(0);
  }

  /** Waits up to `timeout` ms for one more message. */
  #receive(timeout: number): boolean {
    if (this.#ended || this.#closed) return false;
    const fd = native.channelReceive(this.#fd, this.#in, timeout);
    if (fd === undefined) return false;
    if (fd === null) {
      this.#ended = true;
      return false;
    }
    const text = this.#in.subarray(at.text, at.SIZE);
    const end = text.indexOf(0);
    this.#notices.push({
      op: this.#inView.getUint32(at.op, true),
      arg: new BigUint64Array(this.#in.buffer.slice(at.arg, at.text)),
      fd,
      text: Buffer.from(text.subarray(0, end < 0 ? text.length : end)).toString('utf8'),
    });
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    native.closeFd(this.#fd);
  }
}
