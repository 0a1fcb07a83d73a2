/** A guest of 64 pages (frames 16…79) and a second piece of RAM above 4 GiB, with a grant table, without KVM. */
import { BackendGrants } from '../../../shim/grant-table/backend-grants.js';
import { createGrantState } from '../../../shim/grant-table/state.js';
import { GrantTable } from '../../../shim/grant-table/table.js';
import { GuestMemory, PAGE_SIZE, ramWindow } from '../../../shim/memory/guest-memory.js';

export const LOW_GFN = 16;
export const LOW_PAGES = 64;
export const HIGH_GFN = 0x10_0000;
export const HIGH_PAGES = 4;
export const DOMID = 1;
export const BACKEND = 0;

export const PERMIT = 1;
export const READONLY = 4;
export const READING = 8;
export const WRITING = 16;

export interface Fixture {
  readonly table: GrantTable;
  readonly grants: BackendGrants;
  readonly memory: GuestMemory;
  /** First grant frame, as the guest would see it. */
  readonly entries: DataView;
  /** Writes an entry as a guest does. */
  grant(ref: number, gfn: number, flags?: number, domid?: number): void;
  flags(ref: number): number;
}

export function fixture(options: { maxFrames?: number; maxMaptrackFrames?: number; maxVersion?: 1 | 2 } = {}): Fixture {
  const maxFrames = options.maxFrames ?? 4;
  const ownPages = maxFrames + 4;
  const memory = new GuestMemory([
    ramWindow(LOW_GFN, new ArrayBuffer(LOW_PAGES * PAGE_SIZE), 2 ** 32),
    ramWindow(HIGH_GFN, new ArrayBuffer(HIGH_PAGES * PAGE_SIZE), 2 ** 33),
  ]);
  const own = ramWindow(0, new ArrayBuffer(ownPages * PAGE_SIZE), 2 ** 34);
  const table = new GrantTable(createGrantState({ ...options, maxFrames, ownPages, firstOwnPage: 2 }), memory, own, DOMID);
  const entries = new DataView(own.view.buffer, 2 * PAGE_SIZE, maxFrames * PAGE_SIZE);
  return {
    table,
    grants: new BackendGrants(table),
    memory,
    entries,
    grant(ref, gfn, flags = PERMIT, domid = BACKEND) {
      entries.setUint32(ref * 8 + 4, gfn, true);
      entries.setUint16(ref * 8 + 2, domid, true);
      entries.setUint16(ref * 8, flags, true);
    },
    flags: (ref) => entries.getUint16(ref * 8, true),
  };
}
