/** A domain whose memory is paged: QEMU's mapping is watched, pins are counted, and the pager looks after its frames. */
import { Pager, type PagerParts } from '../memory/pager.js';
import type { Domain } from './domain.js';

/**
 * Once per domain, when guest RAM is laid out and before another thread attaches to it. The caller closes the pager after
 * the machine and before the domain.
 * @throws KvmError when the host refuses to watch memory
 */
export function startPaging(domain: Domain, options: Pick<PagerParts, 'file' | 'maxResident' | 'log' | 'failed'>): Pager {
  const { bridge, grantTable, p2m } = domain;
  if (bridge.watchRam === undefined) throw new Error('a bridge that watches no memory');
  const watch = bridge.watchRam();
  grantTable.countPins();
  const { file, maxResident, log, failed } = options;
  const { ram, frames: handles } = domain.handles();
  return new Pager({ frames: p2m.frames, handles: handles!, ram, watch, file, maxResident, log, failed });
}
