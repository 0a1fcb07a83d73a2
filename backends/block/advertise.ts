/** What the backend says of itself: before the frontend chooses, and once it is connected (spec B2). */
import { VdiskInfo } from '../../shim/abi/io/blkif.js';
import { MAX_RING_ORDER } from './frontend.js';
import { MAX_INDIRECT_SEGMENTS } from './request.js';
import type { Target } from './target/target.js';

type Keys = Record<string, string>;

/** Written before InitWait. */
export const offers = (maxQueues: number): Keys => ({
  'feature-max-indirect-segments': String(MAX_INDIRECT_SEGMENTS),
  'multi-queue-max-queues': String(maxQueues),
  'max-ring-page-order': String(MAX_RING_ORDER),
});

/** Written before Connected. A feature that is not there is not mentioned. */
export function diskKeys(target: Target, kind: { cdrom: boolean; removable: boolean; persistent: boolean }): Keys {
  const info =
    (kind.cdrom ? VdiskInfo.CDROM : 0) |
    (kind.removable ? VdiskInfo.REMOVABLE : 0) |
    (target.readonly ? VdiskInfo.READONLY : 0);
  const discard: Keys =
    target.discardGranularity === undefined
      ? {}
      : {
          'discard-granularity': String(target.discardGranularity),
          'discard-alignment': String(target.discardAlignment ?? 0),
          'discard-secure': target.discardSecure === true ? '1' : '0',
          'feature-discard': '1',
        };
  return {
    'feature-flush-cache': '1',
    'feature-barrier': '1',
    ...discard,
    ...(kind.persistent ? { 'feature-persistent': '1' } : {}),
    sectors: String(target.sectors),
    info: String(info),
    'sector-size': String(target.sectorSize),
    'physical-sector-size': String(target.physicalSectorSize),
  };
}
