/**
 * What the threads of one guest share about its grants, in one SharedArrayBuffer of 32-bit words. Nothing in it is
 * visible to the guest: it sees only its grant frames, whose entries every thread changes with compare-and-exchange.
 *
 *     header | thread slots | frame places | own-page frames | active entries | maptrack
 */

import { statusFramesFor } from './entry-v2.js';

/** Version 1 entries in a grant frame. */
export const ENTRIES_PER_FRAME = 512;
/** log2 of the above. */
export const ENTRIES_SHIFT = 9;
/** Threads that can be attached at once. */
export const MAX_THREADS = 64;

/** Header words. */
export const Head = Object.freeze({
  MAX_FRAMES: 0,
  NR_FRAMES: 1,
  VERSION: 2,
  /** Bumped whenever a frame moves: threads re-read the places. */
  GENERATION: 4,
  /** Slot + 1 of the thread that holds the table exclusively, or 0. */
  WRITER: 5,
  /** The domain is going away: maps fail with bad_domain, unmaps only forget. */
  DYING: 6,
  /** Own page of frame 0; frame i's own page is the i-th after it. */
  FIRST_OWN_PAGE: 7,
  OWN_PAGES: 8,
  MAPTRACK_MAX: 9,
  /** Entries ever put to use; beyond it all are untouched. */
  MAPTRACK_LIMIT: 10,
  /** Head of the list of free entries that belong to no thread, -1 = empty. Guarded by MAPTRACK_LOCK. */
  MAPTRACK_FREE: 11,
  MAPTRACK_LOCK: 12,
  MAX_VERSION: 13,
  /** Entries of the frames there are, in the version in force. */
  NR_REFS: 14,
  /** Frames of status words at most: of a version 2 table, else none. They are numbered after the grant frames. */
  MAX_STATUS_FRAMES: 15,
  WORDS: 32,
});

/** Words of a thread slot: a cache line each, since a thread writes its own on every batch. */
export const SLOT_WORDS = 16;
export const Slot = Object.freeze({ CLAIMED: 0, READING: 1 });

/** Words of a frame place. */
export const PLACE_WORDS = 2;
export const PlaceKind = Object.freeze({ OWN: 0, RAM: 1 });

/** Words of an active entry: state (pin counters and lock), cached frame, pinning domain, part of the page. */
export const ACTIVE_SHIFT = 2;
/** Words of a maptrack entry: ref (or next free), meta. */
export const MAPTRACK_SHIFT = 1;
/** grant_mapping structures of 16 bytes in a page: what makes 1024 maptrack frames 262,144 handles. */
export const MAPTRACK_PER_FRAME = 256;

export interface GrantStateOptions {
  /** Grant frames at most; 64 is Xen's default. */
  readonly maxFrames?: number;
  /** Maptrack frames at most; 1024 is Xen's default. */
  readonly maxMaptrackFrames?: number;
  /** Pages of `own` altogether. */
  readonly ownPages: number;
  /** The highest version of entries; default 1. */
  readonly maxVersion?: 1 | 2;
  /** The own pages from here on are the home of the grant frames, and after `maxFrames` of them of the status frames. */
  readonly firstOwnPage: number;
}

/** Allocates the state of a guest's grant table: version 1, one frame, at home, empty. */
export function createGrantState(options: GrantStateOptions): SharedArrayBuffer {
  const { maxFrames = 64, maxMaptrackFrames = 1024, maxVersion = 1, ownPages, firstOwnPage } = options;
  const allFrames = maxFrames + (maxVersion === 2 ? statusFramesFor(maxFrames) : 0);
  const maptrack = maxMaptrackFrames * MAPTRACK_PER_FRAME;
  if (firstOwnPage + allFrames > ownPages) throw new RangeError('grant frames do not fit into the own pages');
  if (maptrack > 2 ** 18) throw new RangeError('a handle has 18 bits of index');
  const words =
    Head.WORDS +
    MAX_THREADS * SLOT_WORDS +
    allFrames * PLACE_WORDS +
    ownPages +
    ((maxFrames * ENTRIES_PER_FRAME) << ACTIVE_SHIFT) +
    (maptrack << MAPTRACK_SHIFT);
  const shared = new SharedArrayBuffer(words * 4);
  const head = new Int32Array(shared, 0, Head.WORDS);
  head[Head.MAX_FRAMES] = maxFrames;
  head[Head.NR_FRAMES] = 1;
  head[Head.VERSION] = 1;
  head[Head.MAX_VERSION] = maxVersion;
  head[Head.NR_REFS] = ENTRIES_PER_FRAME;
  head[Head.MAX_STATUS_FRAMES] = allFrames - maxFrames;
  head[Head.GENERATION] = 1;
  head[Head.FIRST_OWN_PAGE] = firstOwnPage;
  head[Head.OWN_PAGES] = ownPages;
  head[Head.MAPTRACK_MAX] = maptrack;
  head[Head.MAPTRACK_FREE] = -1;
  const state = new GrantState(shared);
  for (let i = 0; i < allFrames; i++) state.words[state.placesAt + i * PLACE_WORDS + 1] = firstOwnPage + i;
  state.words.fill(-1, state.ownFramesAt, state.ownFramesAt + ownPages);
  return shared;
}

/** The shared words and where each part begins (word indices). */
export class GrantState {
  readonly words: Int32Array;
  readonly maxFrames: number;
  readonly maxStatusFrames: number;
  readonly maxRefs: number;
  readonly ownPages: number;
  readonly maptrackMax: number;
  readonly slotsAt = Head.WORDS;
  readonly placesAt: number;
  /** Per own page: the gfn it is shown at, or -1. */
  readonly ownFramesAt: number;
  readonly activeAt: number;
  readonly maptrackAt: number;

  constructor(readonly shared: SharedArrayBuffer) {
    const words = new Int32Array(shared);
    this.words = words;
    this.maxFrames = words[Head.MAX_FRAMES]!;
    this.maxStatusFrames = words[Head.MAX_STATUS_FRAMES]!;
    this.maxRefs = this.maxFrames * ENTRIES_PER_FRAME;
    this.ownPages = words[Head.OWN_PAGES]!;
    this.maptrackMax = words[Head.MAPTRACK_MAX]!;
    this.placesAt = this.slotsAt + MAX_THREADS * SLOT_WORDS;
    this.ownFramesAt = this.placesAt + (this.maxFrames + this.maxStatusFrames) * PLACE_WORDS;
    this.activeAt = this.ownFramesAt + this.ownPages;
    this.maptrackAt = this.activeAt + (this.maxRefs << ACTIVE_SHIFT);
  }

  get nrFrames(): number {
    return Atomics.load(this.words, Head.NR_FRAMES);
  }

  get nrRefs(): number {
    return Atomics.load(this.words, Head.NR_REFS);
  }

  get dying(): boolean {
    return Atomics.load(this.words, Head.DYING) !== 0;
  }
}
