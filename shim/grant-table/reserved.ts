/** The entries 0 to 7, which belong to the toolstack and live on when a guest changes the version of its table. */
import { GNTTAB_NR_RESERVED_ENTRIES as RESERVED, Gtf } from '../abi/grant-table.js';
import type { TableFrames } from './frames.js';

/** First word (flags and domid) and frame of each. */
export type Reserved = readonly { readonly word: number; readonly frame: number }[];

const IN_USE = Gtf.reading | Gtf.writing;

export function readReserved1(frames: TableFrames): Reserved {
  const words = frames.words[0]!;
  return Array.from({ length: RESERVED }, (_, ref) => {
    const at = frames.entryAt(ref);
    return { word: Atomics.load(words, at), frame: Atomics.load(words, at + 1) };
  });
}

/** Undefined when one of them says what version 1 cannot. */
export function readReserved2(frames: TableFrames): Reserved | undefined {
  const words = frames.words[0]!;
  const kept = [];
  for (let ref = 0; ref < RESERVED; ref++) {
    const at = frames.entry2At(ref);
    const word = Atomics.load(words, at);
    const type = word & Gtf.type_mask;
    if (type === Gtf.transitive || (type === Gtf.permit_access && words[at + 3] !== 0)) return undefined;
    kept.push({ word: (word & ~IN_USE) | (frames.status(ref) & IN_USE), frame: words[at + 2]! });
  }
  return kept;
}

export function writeReserved1(frames: TableFrames, kept: Reserved): void {
  const words = frames.words[0]!;
  kept.forEach(({ word, frame }, ref) => {
    const at = frames.entryAt(ref);
    Atomics.store(words, at + 1, frame);
    Atomics.store(words, at, word);
  });
}

export function writeReserved2(frames: TableFrames, kept: Reserved): void {
  const words = frames.words[0]!;
  kept.forEach(({ word, frame }, ref) => {
    const at = frames.entry2At(ref);
    Atomics.store(words, at + 2, frame);
    frames.setStatus(ref, word & IN_USE);
    Atomics.store(words, at, word & ~IN_USE);
  });
}
