import { XsType } from '../../../../shim/abi/io/xs_wire.js';
import type { RingPage } from '../../../../shim/xenstore/ring.js';
import { encode } from '../../../../shim/xenstore/message.js';
import { parse, type Received } from './wire-client.js';

/** Byte offsets of the words of the page. */
export const Word = { reqCons: 2048, reqProd: 2052, rspCons: 2056, rspProd: 2060, features: 2064, connection: 2068, error: 2072 };

/** The guest's side of the ring page, as a driver would play it. The page lies in the middle of a larger memory. */
export class GuestRing {
  readonly memory = new Uint8Array(new SharedArrayBuffer(3 * 4096)).fill(0xaa);
  readonly page: RingPage = { u8: this.memory, offset: 4096 };
  readonly view = new DataView(this.memory.buffer, 4096, 4096);
  notified = 0;
  #pending = Buffer.alloc(0);

  constructor() {
    this.memory.fill(0, 4096, 8192);
  }

  word(at: number): number {
    return this.view.getUint32(at, true);
  }

  set(at: number, value: number): void {
    this.view.setUint32(at, value >>> 0, true);
  }

  notify = (): void => {
    this.notified++;
  };

  /** Puts as many bytes as fit; returns how many. */
  put(bytes: Uint8Array): number {
    const prod = this.word(Word.reqProd);
    const room = 1024 - ((prod - this.word(Word.reqCons)) >>> 0);
    const count = Math.min(room, bytes.length);
    for (let i = 0; i < count; i++) this.view.setUint8((prod + i) & 1023, bytes[i]!);
    this.set(Word.reqProd, prod + count);
    return count;
  }

  send(type: number, payload: string, reqId = 7, txId = 0): void {
    const bytes = encode(type, reqId, txId, payload);
    if (this.put(bytes) !== bytes.length) throw new Error('ring full');
  }

  /** Takes what the ring holds; messages that are complete by now. */
  take(): Received[] {
    const cons = this.word(Word.rspCons);
    const count = (this.word(Word.rspProd) - cons) >>> 0;
    const bytes = Buffer.alloc(count);
    for (let i = 0; i < count; i++) bytes[i] = this.view.getUint8(1024 + ((cons + i) & 1023));
    this.set(Word.rspCons, cons + count);
    this.#pending = Buffer.concat([this.#pending, bytes]);
    const messages = parse(this.#pending);
    const used = messages.reduce((sum, { payload }) => sum + 16 + payload.length, 0);
    this.#pending = this.#pending.subarray(used);
    return messages;
  }

  /** True when nothing outside the page was written. */
  get surroundingsIntact(): boolean {
    return this.memory.every((byte, at) => (at >= 4096 && at < 8192) || byte === 0xaa);
  }
}

export const isEvent = ({ type }: Received): boolean => type === XsType.WATCH_EVENT;
