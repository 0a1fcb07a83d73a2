import { constants } from '../constants.js';

/** States of a split driver's end (enum xenbus_state). */
export const XenbusState = constants('io/xenbus.h', {
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
}, 'XenbusState');

export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState];
