/** A ring's page, pinned for as long as the ring is in use. */
import { Errno } from '../../shim/abi/errno.js';
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import { XenError } from '../../shim/observe/errors.js';
import type { RingPage } from '../../shim/ring/back-ring.js';

/**
 * Maps the page a frontend has granted, and adds what unmaps it to `undo`.
 * @throws XenError EINVAL with the grant's status
 */
export function mapRingPage(grants: ForeignGrants, name: string, ref: number, undo: (() => void)[]): RingPage {
  let page: RingPage | undefined;
  const handle = grants.mapOne(ref | 0, false, 0, (_, window, offset) => {
    page = { i32: window.i32, base: offset >>> 2 };
  });
  if (handle < 0 || page === undefined) {
    throw new XenError(Errno.EINVAL, `mapping ${name} ring page, gref ${ref}: grant status ${handle}`);
  }
  undo.push(() => {
    grants.unmapOne(handle);
  });
  return page;
}
