/** What the bridge's own pages are used for, and where the guest finds those the toolstack places. */

import { statusFramesFor } from '../grant-table/entry-v2.js';

/** Grant frames come first, frame n in page n, and then the status frames of a version 2 table. */
export const FIRST_GRANT_PAGE = 0;
export const MAX_GRANT_FRAMES = 64;

const GRANT_PAGES = MAX_GRANT_FRAMES + statusFramesFor(MAX_GRANT_FRAMES);

export const OwnPage = Object.freeze({
  STORE: GRANT_PAGES,
  CONSOLE: GRANT_PAGES + 1,
  SHARED_INFO: GRANT_PAGES + 2,
  SPARE: GRANT_PAGES + 3,
});

/** Pages the bridge must provide. */
export const OWN_PAGES = GRANT_PAGES + 4;

/** Special pages lie below the firmware, where hvmloader's memory map has room for them: no machine type uses it. */
export const SpecialGfn = Object.freeze({ SPARE: 0xfeff7, STORE: 0xfeff8, CONSOLE: 0xfeff9 });
