/**
 * Version 2 entries in guest memory: 16 bytes, and a status word of 16 bits in another page. The guest owns the entry and
 * we own the status, so nothing is exchanged: the status is set, and then the entry is looked at again. A guest that
 * takes its grant back looks at the status after it has cleared the entry; one of the two sees the other.
 */
import { Gntst, Gtf } from '../abi/grant-table.js';

/** Version 2 entries in a grant frame. */
export const V2_ENTRIES_SHIFT = 8;
const V2_WORDS_SHIFT = 2;
/** Status words in a status frame. */
export const STATUS_SHIFT = 11;

const DOMID_SHIFT = 16;
const DOMID_MASK = 0xffff_0000 | 0;

/** Word index of an entry within its frame. */
export const entry2InFrame = (ref: number): number => (ref & ((1 << V2_ENTRIES_SHIFT) - 1)) << V2_WORDS_SHIFT;
/** Word index of a status within its frame, and how far it is shifted in that word. */
export const statusInFrame = (ref: number): number => (ref & ((1 << STATUS_SHIFT) - 1)) >>> 1;
export const statusShift = (ref: number): number => (ref & 1) << 4;

/** Frames of status words that so many grant frames need. */
export const statusFramesFor = (grantFrames: number): number => Math.ceil(grantFrames / (1 << (STATUS_SHIFT - V2_ENTRIES_SHIFT)));

/**
 * May `domid` use the entry this way? A transitive grant is for copies only, and that is `transitive`.
 * @returns okay, general_error, or `transitive`
 */
export function permits(word: number, domid: number, readonly: boolean, mapping: boolean): number {
  if ((word & DOMID_MASK) !== (domid << DOMID_SHIFT)) return Gntst.general_error;
  if (!readonly && (word & Gtf.readonly) !== 0) return Gntst.general_error;
  const type = word & Gtf.type_mask;
  if (type === Gtf.transitive && !mapping) return TRANSITIVE;
  if (type !== Gtf.permit_access || (mapping && (word & Gtf.sub_page) !== 0)) return Gntst.general_error;
  return Gntst.okay;
}
export const TRANSITIVE = 1;

/** The part of the page a sub-page grant gives, as ActiveEntries keeps it: start << 16 | length; 0 = all of it. */
export function rangeOf(word: number, extent: number): number {
  if ((word & Gtf.sub_page) === 0) return 0;
  const start = extent & 0xffff;
  const length = extent >>> 16;
  // Nothing at all, at a place no copy begins at: 0 means the whole page.
  return length === 0 ? 0xffff_0000 | 0 : (start << 16) | length;
}
