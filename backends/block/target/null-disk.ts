/** `null:SIZE`: a disk without a disk behind it, for measuring frontends, the ring and this program alone. */
import { OperatorError } from '../../../shim/observe/errors.js';
import type { DiskImage, ImageOptions } from '../image.js';

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const SCHEME = /^null:/;

/** The disk a name of this kind means; undefined for any other name. @throws OperatorError DISK_SIZE */
export function nullDisk(name: string, options: ImageOptions): DiskImage | undefined {
  if (!SCHEME.test(name)) return undefined;
  const { readonly, sectorSize = 512 } = options;
  const [, digits = '', unit = ''] = /^null:(\d{1,15})([KMGT]?)$/.exec(name) ?? [];
  const bytes = Number(digits) * UNITS[unit]!;
  if (!(bytes > 0) || bytes % sectorSize !== 0) {
    throw new OperatorError('DISK_SIZE', `disk ${name} has no size`, `use null:10G, a multiple of ${sectorSize} bytes`);
  }
  return {
    place: { kind: 'null' },
    target: { sectors: bytes / 512, sectorSize, physicalSectorSize: sectorSize, readonly, discardGranularity: undefined },
    physicalDevice: undefined,
    setSize: undefined,
    size: () => bytes,
    close: () => {},
  };
}

export const isNullDisk = (name: string): boolean => SCHEME.test(name);
