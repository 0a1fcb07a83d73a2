/**
 * Pages of requests that were taken together and are mapped together: one visit to the grant table for up to sixteen
 * requests. Nothing is answered or submitted before all are mapped, so the order of requests stays theirs.
 */
import { Gntst } from '../../shim/abi/grant-table.js';
import { SECTOR_SIZE } from '../../shim/abi/io/blkif.js';
import { PAGE_OP_SHIFT, PageBatch, PageOp } from '../../shim/grant-table/page-batch.js';
import type { Records } from './records.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';
import type { RequestCopy } from './request.js';

/** What became of a request's pages. */
export const Mapped = Object.freeze({ ALL: 0, NOT: 1, AGAIN: 2 } as const);

export class RequestPages {
  /** Requests waiting for their pages. */
  requests = 0;
  readonly batch: PageBatch;
  private readonly tags: Int32Array;
  /** Op each request begins at, and where the last one ends. */
  private readonly first: Int32Array;

  constructor(requests: number) {
    this.batch = new PageBatch(requests * MAX_INDIRECT_SEGMENTS);
    this.tags = new Int32Array(requests);
    this.first = new Int32Array(requests + 1);
  }

  add(tag: number, request: RequestCopy, write: boolean): void {
    const { batch } = this;
    const { segment, segments } = request;
    for (let i = 0; i < segments; i++) batch.add(segment[2 * i]!, write, segment[2 * i + 1]!);
    this.tags[this.requests++] = tag;
    this.first[this.requests] = batch.count;
  }

  tag(index: number): number {
    return this.tags[index]!;
  }

  /** Enters what was mapped of a request into its record, handles and buffers. */
  collect(index: number, records: Records): number {
    const { words } = this.batch;
    const tag = this.tags[index]!;
    const end = this.first[index + 1]! << PAGE_OP_SHIFT;
    let result: number = Mapped.ALL;
    for (let at = this.first[index]! << PAGE_OP_SHIFT; at < end; at += 1 << PAGE_OP_SHIFT) {
      const status = words[at + PageOp.STATUS]!;
      if (status !== 0) {
        // A failed op may not stop the others from being given back (XSA-362).
        if (status === Gntst.eagain && result === Mapped.ALL) result = Mapped.AGAIN;
        else if (status !== Gntst.eagain) result = Mapped.NOT;
        continue;
      }
      const range = words[at + PageOp.CONTEXT]!;
      const firstSector = range & 0xff;
      const lastSector = (range >>> 8) & 0xff;
      records.hold(tag, words[at + PageOp.HANDLE]!);
      // The page's address ends in twelve zeros: no carry.
      records.addBufferAt(
        tag, words[at + PageOp.HVA_LO]! + firstSector * SECTOR_SIZE, words[at + PageOp.HVA_HI]!,
        (lastSector - firstSector + 1) * SECTOR_SIZE,
      );
    }
    return result;
  }

  /** Writes a request's segments back into `request`, to be mapped by other ways. */
  restore(index: number, request: RequestCopy): void {
    const { words } = this.batch;
    const first = this.first[index]!;
    request.segments = this.first[index + 1]! - first;
    for (let i = 0; i < request.segments; i++) {
      const at = (first + i) << PAGE_OP_SHIFT;
      request.segment[2 * i] = words[at + PageOp.REF]!;
      request.segment[2 * i + 1] = words[at + PageOp.CONTEXT]!;
    }
  }

  clear(): void {
    this.requests = 0;
    this.batch.count = 0;
  }

  release(): void {
    this.batch.free();
  }
}
