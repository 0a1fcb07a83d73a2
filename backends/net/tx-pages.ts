/**
 * The guest's pages of transmit packets that were taken together and are mapped together: one visit to the grant table,
 * one call that copies the heads of all of them, and lists of what is left in the pages.
 */
import { NETIF_RING_SIZE } from '../../shim/abi/io/netif.js';
import type { ForeignGrants, PageChanged } from '../../shim/grant-table/foreign.js';
import { PAGE_OP_SHIFT, PageBatch, PageOp } from '../../shim/grant-table/page-batch.js';
import { Gather } from '../../shim/io/gather.js';
import type { Arena } from './arena.js';
import type { CaptureWriter } from './capture-ring.js';
import { SLOT_WORDS, TAG_WORDS, TxSlot } from './tx-packets.js';
import type { TxPackets } from './tx-packets.js';

const OP_WORDS = 1 << PAGE_OP_SHIFT;
/** Words of a struct iovec. */
const IOVEC_WORDS = 4;

export class TxPages {
  readonly #grants: ForeignGrants;
  readonly #packets: TxPackets;
  /** Each slot is on the ring once. */
  readonly #batch = new PageBatch(NETIF_RING_SIZE);
  /** Word of a tag's first op. */
  readonly #first: Int32Array;
  readonly #heads: Gather;
  readonly #iovecs: Int32Array;
  /** Where the page handed over last is. */
  #bytes: Uint8Array = new Uint8Array(0);
  #offset = 0;
  readonly #pageChanged: PageChanged = (_, window, offset) => {
    this.#bytes = window.u8;
    this.#offset = offset;
  };

  /** @param arena where heads and lists go */
  constructor(grants: ForeignGrants, packets: TxPackets, arena: Arena) {
    this.#grants = grants;
    this.#packets = packets;
    this.#first = new Int32Array(packets.capacity);
    this.#heads = new Gather(arena.u8.buffer, NETIF_RING_SIZE);
    this.#iovecs = arena.i32;
  }

  /** Forgets the packets that have been mapped. */
  clear(): void {
    this.#batch.count = 0;
  }

  /** Has a packet's pages mapped with the others. */
  add(tag: number): void {
    const { words, slots } = this.#packets;
    const batch = this.#batch;
    this.#first[tag] = batch.count << PAGE_OP_SHIFT;
    const first = tag * TAG_WORDS;
    const end = first + slots[tag]! * SLOT_WORDS;
    for (let at = first; at < end; at += SLOT_WORDS) {
      // An empty slot is answered like any other, and its grant is nobody's business (XSA-448).
      if (words[at + TxSlot.ID_SIZE]! >>> 16 !== 0) batch.add(words[at + TxSlot.GREF]!, true, 0);
    }
  }

  /** Maps what was added; pages that are paged out are waited for. */
  map(): void {
    if (this.#grants.mapPages(this.#batch) > 0) this.#grants.settlePages(this.#batch);
  }

  /** Takes a packet's handles; false if a page could not be mapped: that slot has none then. */
  collect(tag: number): boolean {
    const { words, slots } = this.#packets;
    const ops = this.#batch.words;
    const first = tag * TAG_WORDS;
    const end = first + slots[tag]! * SLOT_WORDS;
    let failed = 0;
    for (let at = first, op = this.#first[tag]!; at < end; at += SLOT_WORDS) {
      if (words[at + TxSlot.ID_SIZE]! >>> 16 === 0) continue;
      const status = ops[op + PageOp.STATUS]!;
      if (status === 0) words[at + TxSlot.HANDLE] = ops[op + PageOp.HANDLE]!;
      failed |= status;
      op += OP_WORDS;
    }
    return failed === 0;
  }

  /** Has bytes `from` to `until` of a frame copied to byte `to` of the arena on; the frame is at least that long. */
  addHead(tag: number, from: number, until: number, to: number): void {
    const { words } = this.#packets;
    const ops = this.#batch.words;
    let at = tag * TAG_WORDS;
    let op = this.#first[tag]!;
    // The first slot is never empty, and has it all in nearly every frame.
    for (let before = 0; from < until; at += SLOT_WORDS) {
      const size = words[at + TxSlot.ID_SIZE]! >>> 16;
      if (size === 0) continue;
      const skip = from - before;
      before += size;
      if (before > from) {
        const length = (before < until ? before : until) - from;
        const lo = ops[op + PageOp.HVA_LO]! + (words[at + TxSlot.OFFSET]! & 0xffff) + skip;
        this.#heads.add(lo, ops[op + PageOp.HVA_HI]!, to, length);
        from += length;
        to += length;
      }
      op += OP_WORDS;
    }
  }

  /** Copies what has been added. */
  copyHeads(): void {
    this.#heads.run();
  }

  /** Lists what follows a frame's first `skip` bytes, from word `at` of the arena on; pieces that touch are one. Returns how many. */
  list(tag: number, skip: number, at: number): number {
    const { words, slots } = this.#packets;
    const ops = this.#batch.words;
    const iovecs = this.#iovecs;
    const first = tag * TAG_WORDS;
    const last = first + slots[tag]! * SLOT_WORDS;
    let into = at - IOVEC_WORDS;
    let begin = 0;
    // No address: those of pages are not negative in their low half, and end below 2^31 or at it (attach.ts).
    let end = -1;
    let high = 0;
    for (let slot = first, op = this.#first[tag]!; slot < last; slot += SLOT_WORDS) {
      const size = words[slot + TxSlot.ID_SIZE]! >>> 16;
      if (size === 0) continue;
      if (size <= skip) {
        skip -= size;
      } else {
        const lo = ops[op + PageOp.HVA_LO]! + (words[slot + TxSlot.OFFSET]! & 0xffff) + skip;
        const hi = ops[op + PageOp.HVA_HI]!;
        if (lo !== end || hi !== high) {
          into += IOVEC_WORDS;
          iovecs[into] = lo;
          iovecs[into + 1] = hi;
          iovecs[into + 3] = 0;
          begin = lo;
          end = lo;
          high = hi;
        }
        end += size - skip;
        iovecs[into + 2] = end - begin;
        skip = 0;
      }
      op += OP_WORDS;
    }
    return (into + IOVEC_WORDS - at) / IOVEC_WORDS;
  }

  /** Adds to a capture what follows a frame's first `skip` bytes. */
  record(tag: number, skip: number, capture: CaptureWriter): void {
    const { words, slots } = this.#packets;
    const first = tag * TAG_WORDS;
    const last = first + slots[tag]! * SLOT_WORDS;
    for (let slot = first, op = this.#first[tag]! >> PAGE_OP_SHIFT; slot < last; slot += SLOT_WORDS) {
      const size = words[slot + TxSlot.ID_SIZE]! >>> 16;
      if (size === 0) continue;
      const head = Math.min(size, skip);
      skip -= head;
      this.#grants.handOverPage(this.#batch, op, this.#pageChanged);
      capture.add(this.#bytes, this.#offset + (words[slot + TxSlot.OFFSET]! & 0xffff) + head, size - head);
      op++;
    }
  }

  /** Gives its memory back; nothing may be called afterwards. */
  free(): void {
    this.#batch.free();
  }
}
