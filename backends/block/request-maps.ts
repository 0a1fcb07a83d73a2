/** The pages of one request, mapped by themselves: with patience, with persistent grants, or for pages of our own. */
import { SECTOR_SIZE } from '../../shim/abi/io/blkif.js';
import { MapBatch } from '../../shim/grant-table/foreign.js';
import type { ForeignGrants, PageChanged } from '../../shim/grant-table/foreign.js';
import type { RequestPages } from './pages.js';
import type { PersistentMaps } from './persistent-maps.js';
import { Field, RECORD_SHIFT } from './records.js';
import type { Records } from './records.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';
import type { RequestCopy } from './request.js';
import type { Unpins } from './unpins.js';

interface Parts {
  readonly grants: ForeignGrants;
  readonly records: Records;
  readonly persistent: PersistentMaps | undefined;
}

export class RequestMaps {
  /** Tag whose pages are being handed over. */
  private mapping = 0;
  private readonly batch = new MapBatch(MAX_INDIRECT_SEGMENTS);
  private readonly grants: ForeignGrants;
  private readonly records: Records;
  private readonly persistent: PersistentMaps | undefined;

  /** @param request whose segments are mapped: the queue's only copy */
  constructor(
    { grants, records, persistent }: Parts,
    private readonly request: RequestCopy,
    private readonly unpins: Unpins,
  ) {
    this.grants = grants;
    this.records = records;
    this.persistent = persistent;
  }

  /** Pins the pages of all segments; false, with none left pinned, if one cannot be. */
  map(tag: number, write: boolean, page: PageChanged = this.addPage): boolean {
    const { request, batch, records } = this;
    this.mapping = tag;
    if (this.persistent !== undefined) {
      if (this.persistent.map(tag, request, batch, page)) return true;
      this.unmap(tag);
      return false;
    }
    batch.count = 0;
    for (let i = 0; i < request.segments; i++) batch.add(request.segment[2 * i]!, write, i);
    const failed = this.grants.map(batch, page);
    // A failed op may not stop the others from being given back (XSA-362).
    const { status, handle, count } = batch;
    for (let i = 0; i < count; i++) {
      if (status[i] === 0) records.hold(tag, handle[i]!);
    }
    if (failed === 0) return true;
    this.unmap(tag);
    return false;
  }

  /** One of several requests has a page that is not there: what it has is given back, and all mapped, waiting for pages. */
  again(pages: RequestPages, index: number): boolean {
    const tag = pages.tag(index);
    this.unmap(tag);
    this.records.clearBuffers(tag);
    pages.restore(index, this.request);
    return this.map(tag, this.records.words[(tag << RECORD_SHIFT) + Field.WRITE] !== 0);
  }

  /** Gives back what a request has pinned, at the latest when responses are published. */
  unmap(tag: number): void {
    this.unpins.add(tag);
    if (this.persistent !== undefined) this.persistent.put(tag);
  }

  private readonly addPage: PageChanged = (segment, window, offset) => {
    const range = this.request.segment[2 * segment + 1]!;
    const first = range & 0xff;
    const last = (range >>> 8) & 0xff;
    const address = window.hva + offset + first * SECTOR_SIZE;
    this.records.addBuffer(this.mapping, address, (last - first + 1) * SECTOR_SIZE);
  };
}
