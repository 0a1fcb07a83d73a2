/**
 * The FIFO event-channel ABI on guest memory (public/event_channel.h; "FIFO-based Event Channel ABI", D. Vrabel): an
 * event word per port, and for each vCPU sixteen queues of ports linked through these words. The guest takes ports off
 * the front while this process appends at the end, so every access is one atomic operation on a 32-bit word. Nothing
 * here ever follows a link, and a word that keeps changing is tried a fixed number of times: whatever a guest writes
 * into its words disturbs its own events only.
 */
import { EvtchnFifo, EvtchnFifoControlBlock, PORTS_FIFO } from '../abi/event-channel.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import type { Place } from './two-level.js';

const bit = (number: number): number => (1 << number) | 0;
const PENDING = bit(EvtchnFifo.PENDING);
const MASKED = bit(EvtchnFifo.MASKED);
const LINKED = bit(EvtchnFifo.LINKED);
const BUSY = bit(EvtchnFifo.BUSY);
const LINK_MASK = PORTS_FIFO - 1;

const WORDS_SHIFT = 10;
const WORDS_PER_PAGE = PAGE_SIZE / 4;
const MAX_PAGES = PORTS_FIFO / WORDS_PER_PAGE;
const QUEUES = EvtchnFifo.MAX_QUEUES;

/** Attempts, once the word says it is busy, against a guest that does not leave it alone. */
const LINK_TRIES = 4;

interface ControlBlock {
  readonly i32: Int32Array;
  /** Word index of `ready`; the heads follow. */
  readonly ready: number;
  readonly heads: number;
  /** The port appended last to each queue, 0 = none: what a guest could read and write must not be trusted with it. */
  readonly tails: Int32Array;
}

export class FifoEvents {
  readonly #pages: Place[] = [];
  readonly #blocks = new Map<number, ControlBlock>();
  readonly #priority = new Uint8Array(PORTS_FIFO).fill(EvtchnFifo.PRIORITY_DEFAULT);
  /** vCPU × 16 + priority of the queue a port was put into last, -1 = none. */
  readonly #queue = new Int32Array(PORTS_FIFO).fill(-1);
  /** Ports that became pending before the guest had given the page of their word. */
  readonly #early = new Set<number>();

  /** Ports that have a word. */
  get ports(): number {
    return this.#pages.length << WORDS_SHIFT;
  }

  get full(): boolean {
    return this.#pages.length === MAX_PAGES;
  }

  hasControl(vcpu: number): boolean {
    return this.#blocks.has(vcpu);
  }

  /** @param place of the control block, 8-byte aligned and within its page */
  addControl(vcpu: number, place: Place): void {
    const ready = (place.at + EvtchnFifoControlBlock.ready) >>> 2;
    const heads = (place.at + EvtchnFifoControlBlock.head) >>> 2;
    this.#blocks.set(vcpu, { i32: place.i32, ready, heads, tails: new Int32Array(QUEUES) });
  }

  /** The next page of event words. Returns the ports in it that are pending already, to be raised. */
  addPage(place: Place): number[] {
    const first = this.ports;
    this.#pages.push(place);
    const found = [...this.#early].filter((port) => port >= first && port < first + WORDS_PER_PAGE);
    for (const port of found) this.#early.delete(port);
    return found;
  }

  setPriority(port: number, priority: number): void {
    this.#priority[port] = priority;
  }

  /** A port begins or ends its life: no event of the former one is left. */
  forget(port: number): void {
    this.clearPending(port);
    this.#priority[port] = EvtchnFifo.PRIORITY_DEFAULT;
  }

  /** Makes a port pending. True when the vCPU has to be told: one of its queues was empty and is not any more. */
  raise(port: number, vcpu: number): boolean {
    const page = this.#pages[port >>> WORDS_SHIFT];
    if (page === undefined) {
      this.#early.add(port);
      return false;
    }
    const { i32 } = page;
    const at = wordAt(page, port);
    const before = Atomics.or(i32, at, PENDING);
    if ((before & (MASKED | LINKED)) !== 0) return false;
    // A guest unmasks nothing before its vCPU has a control block, so that nothing is lost here.
    const block = this.#blocks.get(vcpu);
    if (block === undefined) return false;
    if ((Atomics.or(i32, at, LINKED) & LINKED) !== 0) return false;
    return this.#append(port, vcpu, block);
  }

  #append(port: number, vcpu: number, block: ControlBlock): boolean {
    const priority = this.#priority[port]!;
    const queue = vcpu * QUEUES + priority;
    const last = this.#queue[port]!;
    if (last >= 0) {
      // It was the end of the queue it comes from; that queue has been emptied since, for the port is not linked.
      const tails = this.#blocks.get((last / QUEUES) | 0)!.tails;
      if (tails[last % QUEUES] === port) tails[last % QUEUES] = 0;
    }
    this.#queue[port] = queue;
    const tail = block.tails[priority]!;
    block.tails[priority] = port;
    if (tail !== 0 && this.#link(tail, port)) return false;
    Atomics.store(block.i32, block.heads + priority, port);
    return (Atomics.or(block.i32, block.ready, 1 << priority) & (1 << priority)) === 0;
  }

  /** Links `tail` to `port` while it is in its queue; false if the guest has taken it off. */
  #link(tail: number, port: number): boolean {
    const page = this.#pages[tail >>> WORDS_SHIFT]!;
    const { i32 } = page;
    const at = wordAt(page, tail);
    let seen = Atomics.load(i32, at);
    for (let tries = 0; tries <= LINK_TRIES; tries++) {
      if ((seen & LINKED) === 0) {
        if (tries > 0) Atomics.and(i32, at, ~BUSY);
        return false;
      }
      const before = Atomics.compareExchange(i32, at, seen, (seen & ~(BUSY | LINK_MASK)) | port);
      if (before === seen) return true;
      // A guest that plays by the rules leaves a busy word alone.
      seen = tries === 0 ? Atomics.or(i32, at, BUSY) | BUSY : before;
    }
    // As Xen does: the event counts as linked, and is lost to nobody but this guest.
    Atomics.and(i32, at, ~BUSY);
    return true;
  }

  pending(port: number): boolean {
    return this.#pages[port >>> WORDS_SHIFT] === undefined ? this.#early.has(port) : (this.#word(port) & PENDING) !== 0;
  }

  /** Still in a queue: the port must not be given out anew, or its first event would be in the wrong place. */
  busy(port: number): boolean {
    return (this.#word(port) & LINKED) !== 0;
  }

  /** The guest takes the port out of its queue by itself, and ignores it there. */
  clearPending(port: number): void {
    this.#early.delete(port);
    const page = this.#pages[port >>> WORDS_SHIFT];
    if (page !== undefined) Atomics.and(page.i32, wordAt(page, port), ~PENDING);
  }

  /** Clears the mask; true when the port is pending and has to be raised. */
  unmask(port: number): boolean {
    const page = this.#pages[port >>> WORDS_SHIFT];
    if (page === undefined) return false;
    return (Atomics.and(page.i32, wordAt(page, port), ~MASKED) & PENDING) !== 0;
  }

  /** A queue of the vCPU has something in it. */
  ready(vcpu: number): boolean {
    const block = this.#blocks.get(vcpu);
    return block !== undefined && Atomics.load(block.i32, block.ready) !== 0;
  }

  #word(port: number): number {
    const page = this.#pages[port >>> WORDS_SHIFT];
    return page === undefined ? 0 : Atomics.load(page.i32, wordAt(page, port));
  }
}

function wordAt(page: Place, port: number): number {
  return (page.at >>> 2) + (port & (WORDS_PER_PAGE - 1));
}
