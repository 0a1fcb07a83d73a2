/** Another size for an image that a guest is using. */
import { SECTOR_SIZE } from '../../shim/abi/io/blkif.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { DiskImage } from './image.js';

export interface ResizeRequest {
  /** undefined = whatever the file or device has by now. */
  readonly bytes?: number;
  /** Losing what is behind the new end is all right. */
  readonly shrink: boolean;
}

/**
 * A longer image is there before the queues may use it; a shorter one is cut only when no request reaches behind its end
 * any more, for a write that is late would make the file longer again.
 * @param tellQueues resolves when every request in flight keeps to the new size
 * @returns bytes
 * @throws OperatorError DISK_SIZE, DISK_SMALLER, DISK_FIXED, DISK_RESIZE
 */
export async function resizeImage(
  path: string,
  image: DiskImage,
  { bytes, shrink }: ResizeRequest,
  tellQueues: (sectors: number) => Promise<unknown>,
): Promise<number> {
  const before = image.target.sectors * SECTOR_SIZE;
  const wanted = bytes ?? (await image.size());
  check(path, image, wanted, before, shrink);
  const cut = bytes === undefined ? undefined : cutter(path, image, bytes);
  if (wanted >= before) await cut?.();
  const old = image.target;
  const sectors = wanted / SECTOR_SIZE;
  image.target = { ...old, sectors };
  await tellQueues(sectors);
  try {
    if (wanted < before) await cut?.();
  } catch (error) {
    image.target = old;
    await tellQueues(old.sectors);
    throw error;
  }
  return wanted;
}

function check(path: string, image: DiskImage, wanted: number, before: number, shrink: boolean): void {
  const { sectorSize } = image.target;
  if (wanted === 0 || wanted % sectorSize !== 0) {
    throw new OperatorError('DISK_SIZE', `${wanted} bytes are not a whole number of ${sectorSize}-byte sectors`,
      'choose another size');
  }
  if (wanted < before && !shrink) {
    throw new OperatorError('DISK_SMALLER', `disk ${path} has ${before} bytes and would have ${wanted}`,
      'shrink its file system in the guest first, then say --shrink');
  }
}

function cutter(path: string, image: DiskImage, bytes: number): () => Promise<void> {
  const { setSize } = image;
  if (setSize === undefined) {
    throw new OperatorError('DISK_FIXED', `xenshim cannot change the size of ${path}, a device or a read-only file`,
      'resize it by its own means, then say --refresh');
  }
  return async () => {
    try {
      await setSize(bytes);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw new OperatorError('DISK_RESIZE', `disk ${path} cannot be given ${bytes} bytes (${code ?? message})`,
        'check what it is on');
    }
  };
}
