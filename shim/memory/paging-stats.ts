/** What the pager and those who wait for it have counted, read from the words they share (kvm/core/frames.h). */
import { native } from '../../kvm/native.js';

const Head = native.frameHeader;

export interface PagingStats {
  readonly resident: number;
  readonly maxResident: number;
  readonly released: number;
  readonly faults: number;
  readonly requests: number;
  readonly refused: number;
  readonly pagedIn: number;
  readonly zeroed: number;
  readonly evicted: number;
  readonly cancelled: number;
  readonly eagain: number;
  /** Page-ins that went beyond the limit, because all that is there is pinned. */
  readonly crowded: number;
  /** Requests of ours that the pager has not come to. */
  readonly waiting: number;
  /** How long the oldest of them waits, or the page-in that is under way; ms. */
  readonly oldestWait: number;
  /** The longest a page-in has taken, µs. */
  readonly slowest: number;
}

/** Frames by what FrameState says of them, and how many are pinned. */
export interface FrameCensus {
  readonly states: readonly number[];
  readonly pinned: number;
}

/** ms of CLOCK_MONOTONIC in 32 bits, as the pager has it. */
export function monotonicMs(): number {
  return Number(BigInt.asUintN(32, process.hrtime.bigint() / 1_000_000n));
}

export function readStats(words: Int32Array): PagingStats {
  const word = (index: number): number => Atomics.load(words, index) >>> 0;
  return {
    resident: word(Head.resident),
    maxResident: word(Head.max_resident),
    released: word(Head.released),
    faults: word(Head.faults),
    requests: word(Head.requests),
    refused: word(Head.refused),
    pagedIn: word(Head.paged_in),
    zeroed: word(Head.zeroed),
    evicted: word(Head.evicted),
    cancelled: word(Head.cancelled),
    eagain: word(Head.eagain),
    crowded: word(Head.crowded),
    waiting: (word(Head.tail) - word(Head.head)) >>> 0,
    oldestWait: oldestWait(word),
    slowest: word(Head.slowest),
  };
}

function oldestWait(word: (index: number) => number): number {
  const since: number[] = [];
  if (word(Head.serving) !== 0) since.push(word(Head.serving_since));
  const head = word(Head.head);
  const slot = head & (Head.RING - 1);
  if (head !== word(Head.tail) && word(Head.ring + slot) !== 0) since.push(word(Head.asked + slot));
  const at = monotonicMs();
  return since.reduce((longest, each) => Math.max(longest, (at - each) | 0), 0);
}

/** @param count frames with a word */
export function countFrames(
  words: Int32Array,
  count: number,
  ranges: readonly { readonly gfn: number; readonly pages: number }[],
): FrameCensus {
  const states = [0, 0, 0, 0, 0, 0];
  let pinned = 0;
  for (const { gfn, pages } of ranges) {
    for (let at = gfn; at < Math.min(gfn + pages, count); at++) {
      const word = words[Head.WORDS + at]!;
      states[word & 0xf]!++;
      if (word >>> 8 !== 0) pinned++;
    }
  }
  return { states, pinned };
}
