/** Opening a raw image or block device, with every way it can be unusable told to the operator. */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';

import { SECTOR_SIZE } from '../../shim/abi/io/blkif.js';
import { blockDeviceSectors, blockDeviceSize, punchHole } from '../../shim/io/block-device.js';
import { discardLimits } from '../../shim/io/discard.js';
import type { DiscardLimits } from '../../shim/io/discard.js';
import { lockImage, unlockImage } from '../../shim/io/image-lock.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { alignmentOf, DIRECT, noDirect } from './direct.js';
import { refuseContainer } from './target/storage-format.js';
import type { Target, TargetPlace } from './target/target.js';

export interface ImageOptions {
  readonly readonly: boolean;
  /** The operator's own QEMU has the same image open (it boots from it), so its locks are no conflict. */
  readonly sharedWithQemu?: boolean;
  /** False keeps DISCARD from being offered. */
  readonly discard?: boolean;
  /** Bytes, where they are not to be those of the file (512) or device. */
  readonly sectorSize?: number;
  /** O_DIRECT: the host's page cache is left out. */
  readonly direct?: boolean;
  /** The operator said that it is raw, whatever its first bytes look like. */
  readonly anyContent?: boolean;
}

export interface DiskImage {
  readonly place: TargetPlace;
  /** As the guest was told last; a resize puts another one here. */
  target: Target;
  /** Bytes there are now. */
  size(): number | Promise<number>;
  /** Makes it longer or shorter; undefined where that is somebody else's to do. Throws or rejects with what went wrong. */
  readonly setSize: ((bytes: number) => void | Promise<void>) | undefined;
  /** `maj:min` in hex, as the physical-device node has it; undefined for a file. */
  readonly physicalDevice: string | undefined;
  /** Takes from whoever serves it, on the spot, what he holds of the guest's; he comes back by himself. */
  end?(): void;
  /** Idempotent. */
  close(): void | Promise<void>;
}

/** A raw file or device, which is open in this process. */
export interface RawImage extends DiskImage {
  readonly fd: number;
  size(): number;
  close(): void;
}

/**
 * @throws OperatorError DISK_MISSING, DISK_PERMISSION, DISK_KIND, DISK_SIZE, DISK_SECTOR, DISK_DIRECT, DISK_FORMAT,
 * DISK_LOCKED, DISK_LOCKS
 */
export function openImage(path: string, options: ImageOptions): RawImage {
  const fd = open(path, options.readonly, options.direct === true);
  try {
    const stat = fstatSync(fd);
    const target = describe(path, fd, stat, options);
    if (options.sharedWithQemu !== true) lock(path, fd, options.readonly);
    let open = true;
    return {
      fd,
      place: { kind: 'file', fd },
      target,
      size: () => sizeOf(fd, fstatSync(fd)),
      setSize: stat.isFile() && !options.readonly ? (bytes) => ftruncateSync(fd, bytes) : undefined,
      physicalDevice: stat.isBlockDevice() ? majorMinor(stat.rdev) : undefined,
      close: () => {
        // The number may be another file's by now.
        if (!open) return;
        open = false;
        if (options.sharedWithQemu !== true) unlockImage(fd);
        closeSync(fd);
      },
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function open(path: string, readonly: boolean, direct: boolean): number {
  // Non-blocking, so that a FIFO given by mistake does not hang; on files and block devices it means nothing.
  const flags =
    (readonly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK | constants.O_NOCTTY | (direct ? DIRECT : 0);
  try {
    return openSync(path, flags);
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    switch (code) {
      case 'ENOENT':
      case 'ENOTDIR':
        throw new OperatorError('DISK_MISSING', `disk ${path} does not exist`, 'create the image or correct the path');
      case 'EACCES':
      case 'EPERM':
      case 'EROFS':
        throw new OperatorError(
          'DISK_PERMISSION',
          `disk ${path} cannot be opened for ${readonly ? 'reading' : 'writing'} (${code})`,
          readonly ? 'give this user read access' : 'give this user read and write access, or add ",ro" to the disk',
        );
      case 'EISDIR':
      case 'ENXIO':
        throw notADisk(path);
      default:
        if (direct && code === 'EINVAL') throw isDisk(statSync(path)) ? noDirect(path) : notADisk(path);
        throw new OperatorError('DISK_OPEN', `disk ${path} cannot be opened (${code})`, 'check the file and its host');
    }
  }
}

/** Opens and looks what it is, no more. @throws OperatorError as openImage */
export function openImageFile(path: string, readonly: boolean): { readonly fd: number; readonly isDevice: boolean } {
  const fd = open(path, readonly, false);
  const stat = fstatSync(fd);
  if (stat.isFile() || stat.isBlockDevice()) return { fd, isDevice: stat.isBlockDevice() };
  closeSync(fd);
  throw notADisk(path);
}

const notADisk = (path: string): OperatorError =>
  new OperatorError('DISK_KIND', `disk ${path} is neither a file nor a block device`, 'name a raw image or a device');

const isDisk = (stat: Stats): boolean => stat.isFile() || stat.isBlockDevice();

const sizeOf = (fd: number, stat: Stats): number => (stat.isFile() ? stat.size : blockDeviceSize(fd));

function describe(path: string, fd: number, stat: Stats, options: ImageOptions): Target {
  if (!isDisk(stat)) throw notADisk(path);
  const bytes = sizeOf(fd, stat);
  const own = stat.isFile() ? { logical: SECTOR_SIZE, physical: SECTOR_SIZE } : blockDeviceSectors(fd);
  const direct = options.direct === true ? alignmentOf(path, fd, !stat.isFile()) : undefined;
  // With O_DIRECT no request may be smaller than the host's own sectors, whatever is made of several pages.
  const smallest = Math.max(own.logical, direct?.offset ?? 0);
  const logical = options.sectorSize ?? smallest;
  if (logical < smallest) {
    throw new OperatorError(
      'DISK_SECTOR',
      `disk ${path} has sectors of ${smallest} bytes, which cannot be shown as ${logical}`,
      'leave sector-size out',
    );
  }
  if (bytes === 0 || bytes % logical !== 0) {
    throw new OperatorError(
      'DISK_SIZE',
      `disk ${path} has ${bytes} bytes, which is not a whole number of ${logical}-byte sectors`,
      'use a raw image, or enlarge it with truncate',
    );
  }
  if (options.anyContent !== true) refuseContainer(path, fd);
  const discard = options.readonly || options.discard === false ? undefined : discards(fd, stat, bytes);
  return {
    sectors: bytes / SECTOR_SIZE,
    sectorSize: logical,
    physicalSectorSize: Math.max(own.physical, logical),
    readonly: options.readonly,
    discardGranularity: discard === undefined ? undefined : Math.max(discard.granularity, logical),
    ...(discard === undefined ? {} : { discardAlignment: discard.alignment, discardSecure: discard.secure }),
    ...(direct === undefined ? {} : { alignment: Math.max(direct.memory, direct.offset) }),
  };
}

/** Whether a file's system punches holes is tried behind its end, where there is nothing to lose. */
function discards(fd: number, stat: Stats, bytes: number): DiscardLimits | undefined {
  if (stat.isFile()) {
    return punchHole(fd, bytes, 4096) === 0 ? { granularity: stat.blksize, alignment: 0, secure: false } : undefined;
  }
  const { major, minor } = numbers(stat.rdev);
  return discardLimits(`${major}:${minor}`, fd);
}

function lock(path: string, fd: number, readonly: boolean): void {
  let free: boolean;
  try {
    free = lockImage(fd, readonly);
  } catch (error) {
    throw new OperatorError(
      'DISK_LOCKS',
      `disk ${path} cannot be locked (${(error as Error).message})`,
      'keep it on a file system with file locks',
    );
  }
  if (!free) {
    throw new OperatorError(
      'DISK_LOCKED',
      `disk ${path} is in use by another virtual machine or tool`,
      'stop the other user of the image',
    );
  }
}

/** glibc's encoding of dev_t. */
function numbers(device: number): { major: bigint; minor: bigint } {
  const rdev = BigInt(device);
  return {
    major: ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n),
    minor: (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n),
  };
}

function majorMinor(device: number): string {
  const { major, minor } = numbers(device);
  return `${major.toString(16)}:${minor.toString(16)}`;
}
