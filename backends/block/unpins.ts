/** Grants that requests no longer use: unmapped together, before the responses are published (spec B4). */
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import { HandleBatch } from '../../shim/grant-table/page-batch.js';
import { Field, RECORD_SHIFT } from './records.js';
import type { Records } from './records.js';

const CAPACITY = 1024;

export class Unpins {
  private readonly batch = new HandleBatch(CAPACITY);

  constructor(
    private readonly grants: ForeignGrants,
    private readonly records: Records,
  ) {}

  /** Takes what a record holds. */
  add(tag: number): void {
    const { records, batch } = this;
    const at = (tag << RECORD_SHIFT) + Field.HELD;
    const held = records.words[at]!;
    if (batch.count + held > CAPACITY) this.flush();
    for (let i = 0; i < held; i++) batch.handle[batch.count++] = records.handle(tag, i);
    records.words[at] = 0;
  }

  flush(): void {
    if (this.batch.count === 0) return;
    this.grants.unmapHandles(this.batch);
    this.batch.count = 0;
  }

  release(): void {
    this.batch.free();
  }
}
