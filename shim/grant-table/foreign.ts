/**
 * Grants as a backend uses them: map, unmap and copy in batches, after spec A3. There is no GNTMAP_host_map: the
 * backend's thread already sees all of guest RAM, so a successful map pins the grant and hands the guest's own page to
 * the page-changed callback. A batch is a structure of arrays, allocated once and reused; nothing is allocated per op.
 */
import { ramWindow } from '../memory/guest-memory.js';
import type { RamWindow } from '../memory/guest-memory.js';
import type { HandleBatch, PageBatch } from './page-batch.js';

/** INVALID_GRANT_HANDLE: what a handle holds before a map succeeded and after its unmap (spec A1.2). */
export const INVALID_GRANT_HANDLE = -1;

/**
 * Called once per successfully mapped op, in index order, after retries have settled (spec A3.3).
 * @param context `batch.context[i]` of the op
 * @param window the RAM window the page is in, as mapped by the calling thread
 * @param offset byte offset of the page in the window
 * The page stays valid until the matching unmap completes.
 */
export type PageChanged = (context: number, window: RamWindow, offset: number) => void;

/** What `window` holds before a map: an array of one kind of object all along. */
const NO_WINDOW: RamWindow = ramWindow(0, new ArrayBuffer(0), 0);

/** Map and unmap ops as arrays; `count` says how many are in use. */
export class MapBatch {
  count = 0;
  readonly ref: Int32Array;
  /** 1 = GNTMAP_readonly. */
  readonly readonly: Uint8Array;
  /** Passed to the page-changed callback. */
  readonly context: Int32Array;
  /** out of map, in of unmap: -1 when not mapped. */
  readonly handle: Int32Array;
  /** out: GNTST_* (0 or negative). */
  readonly status: Int16Array;
  /** out of map: where the page of a mapped op is, as the page-changed callback gets it. */
  readonly window: RamWindow[];
  readonly offset: Int32Array;

  constructor(readonly capacity: number) {
    this.ref = new Int32Array(capacity);
    this.readonly = new Uint8Array(capacity);
    this.context = new Int32Array(capacity);
    this.handle = new Int32Array(capacity).fill(INVALID_GRANT_HANDLE);
    this.status = new Int16Array(capacity);
    this.window = new Array<RamWindow>(capacity).fill(NO_WINDOW);
    this.offset = new Int32Array(capacity);
  }

  /** Appends a map op; returns its index. The caller keeps within `capacity`. */
  add(ref: number, readonly: boolean, context: number): number {
    const i = this.count++;
    this.ref[i] = ref;
    this.readonly[i] = readonly ? 1 : 0;
    this.context[i] = context;
    this.handle[i] = INVALID_GRANT_HANDLE;
    this.status[i] = 0;
    return i;
  }
}

/** One guest's grants as one thread of a backend sees them. */
export interface ForeignGrants {
  /**
   * Until `end`, maps and unmaps share one visit to the table. Short: nothing may be waited for in between, and whoever
   * moves or grows the table waits for the end.
   */
  begin(): void;
  end(): void;
  /** Maps every op of the batch; returns how many failed. Results are in `batch.status` and `batch.handle`. */
  map(batch: MapBatch, pageChanged: PageChanged | null): number;
  /** Unmaps `batch.handle[0..count)`; handles become -1, statuses are written; returns how many failed. */
  unmap(batch: MapBatch): number;
  /**
   * Maps every page of a batch, without patience: GNTST_eagain is an op's status like any other, and the page-in is under
   * way then. Returns how many failed; their status says why.
   */
  mapPages(batch: PageBatch): number;
  /**
   * What is left to do for the ops that `mapPages` has left GNTST_eagain: each is issued again at once and then as patience
   * has it, one after the other in their order, the other ops untouched (spec A0.2–A0.5). Returns how many ops of the batch
   * have failed; with patience none has GNTST_eagain any more.
   */
  settlePages(batch: PageBatch): number;
  /** Hands over the page of an op that is mapped, with the op's CONTEXT: for who looks at bytes, where addresses will not do. */
  handOverPage(batch: PageBatch, op: number, pageChanged: PageChanged): void;
  /** Unmaps every handle of a batch. */
  unmapHandles(batch: HandleBatch): void;
  /** Maps one page; returns a handle >= 0 or a negative GNTST_* status. The page is handed to `pageChanged`. */
  mapOne(ref: number, readonly: boolean, context: number, pageChanged: PageChanged): number;
  /** Unmaps one handle; returns a GNTST_* status. */
  unmapOne(handle: number): number;
  /** Grant copy, guest page → `into` (length bytes from `offset` of the page). Returns a GNTST_* status. */
  copyFrom(ref: number, offset: number, into: Uint8Array, at: number, length: number): number;
  /** Grant copy, `from` → guest page. Returns a GNTST_* status. */
  copyTo(ref: number, offset: number, from: Uint8Array, at: number, length: number): number;
}
