/** Disks on their way from an option to a guest: which one is xvda, and the image opened. */
import { realpathSync } from 'node:fs';
import type { DiskImage } from '../../backends/block/image.js';
import { openDisk as openTarget } from '../../backends/block/target/open-disk.js';
import { isNullDisk } from '../../backends/block/target/null-disk.js';
import { isStorageUri, shownName } from '../../backends/block/target/storage-uri.js';
import { freeDevice, type VirtualDevice } from '../../backends/block/virtual-device.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import type { DiskOption } from './disk-option.js';

/** Queues of a storage daemon, which has to be told before the guest says how many it wants. */
const DAEMON_QUEUES = 4;

export interface DiskPart {
  readonly vdev: VirtualDevice;
  readonly path: string;
  readonly image: DiskImage;
  readonly option: DiskOption;
}

/** The name of one more disk. @throws OperatorError VDEV_USED */
export function place({ vdev }: DiskOption, taken: readonly VirtualDevice[]): VirtualDevice {
  if (vdev === undefined) return freeDevice(taken);
  const other = taken.find(({ number }) => number === vdev.number);
  if (other !== undefined) {
    throw new OperatorError('VDEV_USED', `there is a disk ${other.name} already`, 'choose another vdev, or none');
  }
  return vdev;
}

/** Those that were given a name get it; the rest take the free ones in their order. @throws OperatorError VDEV_USED */
export function placed(options: readonly DiskOption[]): (DiskOption & { readonly vdev: VirtualDevice })[] {
  const taken: VirtualDevice[] = [];
  for (const option of options) if (option.vdev !== undefined) taken.push(place(option, taken));
  return options.map((option) => {
    const vdev = option.vdev ?? freeDevice(taken);
    if (option.vdev === undefined) taken.push(vdev);
    return { ...option, vdev };
  });
}

/**
 * @param shared the operator's own QEMU has the image open, too
 * @param queuesPerWorker for a disk that has no such option and is not served by a storage daemon
 * @throws OperatorError as openDisk of the block backend, DISK_WORKERS
 */
export async function openDisk(
  option: DiskOption, vdev: VirtualDevice, shared: boolean, log: Log, queuesPerWorker?: number,
): Promise<DiskPart> {
  const { file, readonly, discard, sectorSize, direct = false, format, queues = DAEMON_QUEUES } = option;
  const image = await openTarget(file, {
    readonly,
    queues,
    log: log.child({ vbd: vdev.name }),
    sharedWithQemu: shared,
    direct,
    ...(discard === undefined ? {} : { discard }),
    ...(sectorSize === undefined ? {} : { sectorSize }),
    ...(format === undefined ? {} : { format }),
  });
  const oneThread = image.place.kind === 'vhost-user';
  if (oneThread && option.queuesPerWorker !== undefined) {
    await image.close();
    throw new OperatorError('DISK_WORKERS', `disk ${shownName(file)} is served by a storage daemon, which one thread talks to`,
      'leave queues-per-worker out, or convert the image with qemu-img convert -O raw');
  }
  const perWorker = option.queuesPerWorker ?? (oneThread ? undefined : queuesPerWorker);
  return {
    vdev,
    path: isStorageUri(file) ? shownName(file) : isNullDisk(file) ? file : realpathSync(file),
    image,
    option: perWorker === undefined ? option : { ...option, queuesPerWorker: perWorker },
  };
}
