/** States of a split driver's end (public/io/xenbus.h, enum xenbus_state). */
export const XenbusState = Object.freeze({
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const);

export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState];
