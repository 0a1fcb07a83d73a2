/**
 * Version 1 entries in guest memory: flags and domid share one 32-bit word, the frame is the next. The guest changes
 * them at any time, so every change here is a compare-and-exchange of the whole first word.
 */
import { Gntst, Gtf } from '../abi/grant-table.js';

/** Attempts against an entry that keeps changing (spec D1, E07). */
const MAX_TRIES = 5;

const DOMID_SHIFT = 16;
const DOMID_MASK = 0xffff_0000 | 0;

/**
 * Sets GTF_reading, and GTF_writing unless readonly, if the entry permits `domid` that.
 * @param at word index of the entry
 * @param mapping true for a map, which a sub-page grant does not allow; false for a copy
 * @returns okay or general_error, the entry then untouched
 */
export function setStatus(words: Int32Array, at: number, domid: number, readonly: boolean, mapping: boolean): number {
  const mask = DOMID_MASK | Gtf.type_mask | (mapping ? Gtf.sub_page : 0);
  const wanted = (domid << DOMID_SHIFT) | Gtf.permit_access;
  const set = readonly ? Gtf.reading : Gtf.reading | Gtf.writing;
  let seen = words[at]!;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    if ((seen & mask) !== wanted) return Gntst.general_error;
    if (!readonly && (seen & Gtf.readonly) !== 0) return Gntst.general_error;
    const before = Atomics.compareExchange(words, at, seen, seen | set);
    if (before === seen) return Gntst.okay;
    seen = before;
  }
  return Gntst.general_error;
}

/** Clears GTF_writing and/or GTF_reading. Both in one step keeps Xen's order: nobody sees reading gone, writing set. */
export function clearStatus(words: Int32Array, at: number, flags: number): void {
  Atomics.and(words, at, ~flags);
}

/** The frame as the guest has it now; read only after `setStatus` succeeded. */
export function entryFrame(words: Int32Array, at: number): number {
  return words[at + 1]! >>> 0;
}

/** First word of an entry. */
export function entryWord(flags: number, domid: number): number {
  return (domid << DOMID_SHIFT) | flags;
}
