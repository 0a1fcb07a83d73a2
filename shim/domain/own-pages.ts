/** What the bridge's own pages are used for, and where the guest finds those the toolstack places. */

/** Grant frames come first, frame n in page n. */
export const FIRST_GRANT_PAGE = 0;
export const MAX_GRANT_FRAMES = 64;

export const OwnPage = Object.freeze({
  STORE: MAX_GRANT_FRAMES,
  CONSOLE: MAX_GRANT_FRAMES + 1,
  SHARED_INFO: MAX_GRANT_FRAMES + 2,
  SPARE: MAX_GRANT_FRAMES + 3,
});

/** Pages the bridge must provide. */
export const OWN_PAGES = MAX_GRANT_FRAMES + 4;

/** Special pages lie below the firmware, where hvmloader's memory map has room for them: no machine type uses it. */
export const SpecialGfn = Object.freeze({ SPARE: 0xfeff7, STORE: 0xfeff8, CONSOLE: 0xfeff9 });
