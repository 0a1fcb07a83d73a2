/** What grants need to know of frames: whether an entry's frame is there, kept there while the entry is pinned. */
import { Errno } from '../abi/errno.js';
import { Gntst } from '../abi/grant-table.js';
import type { Frames } from '../memory/frames.js';

/** Of frames that are RAM. Never waits and never touches a page. */
export interface Residency {
  /** No frame is ever taken away, for now: nobody need pin one. */
  readonly idle: boolean;
  /** okay: it stays until `unpin`; GNTST_eagain: its page-in has been started; GNTST_bad_page: given back by the guest. */
  pin(gfn: number): number;
  unpin(gfn: number): void;
  /** The last pin that allowed writing ends. */
  wrote(gfn: number): void;
}

/** Spec A2.11: what is paged out is to be tried again, all else that is no memory is a bad page. */
export function grantResidency(frames: Frames): Residency {
  return {
    get idle() {
      return frames.idle;
    },
    pin: (gfn) => {
      const status = frames.pin(gfn);
      if (status === 0) return Gntst.okay;
      return status === -Errno.EAGAIN ? Gntst.eagain : Gntst.bad_page;
    },
    unpin: (gfn) => {
      frames.unpin(gfn);
    },
    wrote: (gfn) => {
      frames.wrote(gfn);
    },
  };
}
