/** What a grant-table hypercall of the guest may use of the domain that issued it. */
import { Domid } from '../../abi/xen.js';
import type { GrantTable } from '../table.js';

/** Bytes of a guest page: `u8[offset … offset + 4095]`. */
export interface PageBytes {
  readonly u8: Uint8Array;
  readonly offset: number;
}

export interface GrantCaller {
  readonly table: GrantTable;
  /** The page behind a frame of the guest as its p2m has it, or undefined if there is none. */
  locateFrame(gfn: number): PageBytes | undefined;
  /** Takes the status frames of the table out of the guest's sight. */
  dropStatusFrames(): void;
  /** Copies from guest-virtual memory; false if any of it is not accessible. */
  copyIn(va: bigint, into: Uint8Array): boolean;
  /** Copies to guest-virtual memory; false if any of it is not accessible. */
  copyOut(va: bigint, from: Uint8Array): boolean;
}

/** The domains that exist from a guest's point of view. */
export type KnownDomain = 'self' | 'backend' | 'unknown';

/** Resolves a domid argument, DOMID_SELF included. */
export function whichDomain(table: GrantTable, domid: number): KnownDomain {
  if (domid === Domid.SELF || domid === table.domid) return 'self';
  return domid === Domid.BACKEND ? 'backend' : 'unknown';
}
