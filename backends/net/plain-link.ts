/**
 * A link by plain system calls: for taps before Linux 6.4, which take no RWF_NOWAIT. An io_uring is no help there: without
 * that flag it hands a read or write that cannot go on at once to a thread of its own, or keeps it.
 */
import { NETIF_RING_SIZE } from '../../shim/abi/io/netif.js';
import type { IoUring } from '../../shim/io/uring.js';
import type { VectorIo } from '../../shim/io/vector-io.js';
import { Kind, pollLink } from './uring-link.js';
import type { LinkReader, LinkWriter, VifLink } from './vif-link.js';

/** Words of an entry: its kind, the caller's tag, bytes or a negative errno. */
const WORDS = 3;
/** Of one pass: frames of a full ring, and a batch of reads, which are fewer. */
const ENTRIES = 2 * NETIF_RING_SIZE;

export class PlainLink implements VifLink {
  readonly waits = false;
  /** What has been done and not been told. Told later, since a queue counts its reads when it has begun them all. */
  readonly #done = new Int32Array(ENTRIES * WORDS);
  #end = 0;
  /** A read's errno: what is left of its batch gets the same answer, for less. */
  #failed = 0;

  /** @param io of the plain kind */
  constructor(
    private readonly uring: IoUring,
    private readonly io: VectorIo,
  ) {}

  send(tag: number, address: number, count: number): void {
    this.#note(Kind.TX, tag, this.io.write(address, count));
  }

  sendPlain(tag: number, address: number, length: number): void {
    this.#note(Kind.TX, tag, this.io.writeOne(address, length));
  }

  sendNow(address: number, count: number): number {
    return this.io.write(address, count);
  }

  readNow(address: number, count: number): number {
    return this.io.read(address, count);
  }

  read(buffer: number, address: number, length: number): void {
    this.#noteRead(Kind.RX, buffer, this.#failed < 0 ? this.#failed : this.io.readOne(address, length));
  }

  readv(index: number, address: number, count: number): void {
    this.#noteRead(Kind.DIRECT, index, this.#failed < 0 ? this.#failed : this.io.read(address, count));
  }

  poll(): void {
    pollLink(this.uring);
  }

  take(tx: LinkWriter, rx: LinkReader, now: number): number {
    const done = this.#done;
    let moved = 0;
    for (let at = 0; at < this.#end; at += WORDS) {
      const tag = done[at + 1]!;
      const result = done[at + 2]!;
      if (done[at] === Kind.TX) tx.sent(tag, result);
      else if (done[at] === Kind.RX) rx.received(tag, result, now);
      else rx.receivedDirect(tag, result, now);
      if (result >= 0 || done[at] === Kind.TX) moved++;
    }
    this.#end = 0;
    this.#failed = 0;
    return moved;
  }

  #noteRead(kind: number, tag: number, result: number): void {
    if (result < 0) this.#failed = result;
    this.#note(kind, tag, result);
  }

  #note(kind: number, tag: number, result: number): void {
    const done = this.#done;
    const at = this.#end;
    done[at] = kind;
    done[at + 1] = tag;
    done[at + 2] = result;
    this.#end = at + WORDS;
  }
}
