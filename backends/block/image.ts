/** Opening a raw image or block device, with every way it can be unusable told to the operator. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { Stats } from 'node:fs';

import { SECTOR_SIZE } from '../../shim/abi/io/blkif.js';
import { blockDeviceSectors, blockDeviceSize, punchHole } from '../../shim/io/block-device.js';
import { lockImage } from '../../shim/io/image-lock.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Target } from './target/target.js';

export interface ImageOptions {
  readonly readonly: boolean;
  /** The operator's own QEMU has the same image open (it boots from it), so its locks are no conflict. */
  readonly sharedWithQemu?: boolean;
  /** False keeps DISCARD from being offered. */
  readonly discard?: boolean;
}

export interface DiskImage {
  readonly fd: number;
  readonly target: Target;
  /** `maj:min` in hex, as the physical-device node has it; undefined for a file. */
  readonly physicalDevice: string | undefined;
  close(): void;
}

/** @throws OperatorError DISK_MISSING, DISK_PERMISSION, DISK_KIND, DISK_SIZE, DISK_FORMAT, DISK_LOCKED, DISK_LOCKS */
export function openImage(path: string, options: ImageOptions): DiskImage {
  const fd = open(path, options.readonly);
  try {
    const stat = fstatSync(fd);
    const target = describe(path, fd, stat, options);
    if (options.sharedWithQemu !== true) lock(path, fd, options.readonly);
    return {
      fd,
      target,
      physicalDevice: stat.isBlockDevice() ? majorMinor(stat.rdev) : undefined,
      close: () => {
        closeSync(fd);
      },
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function open(path: string, readonly: boolean): number {
  // Non-blocking, so that a FIFO given by mistake does not hang; on files and block devices it means nothing.
  const flags = (readonly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK | constants.O_NOCTTY;
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
        throw new OperatorError('DISK_OPEN', `disk ${path} cannot be opened (${code})`, 'check the file and its host');
    }
  }
}

const notADisk = (path: string): OperatorError =>
  new OperatorError('DISK_KIND', `disk ${path} is neither a file nor a block device`, 'name a raw image or a device');

function describe(path: string, fd: number, stat: Stats, options: ImageOptions): Target {
  if (!stat.isFile() && !stat.isBlockDevice()) throw notADisk(path);
  const bytes = stat.isFile() ? stat.size : blockDeviceSize(fd);
  const { logical, physical } = stat.isFile()
    ? { logical: SECTOR_SIZE, physical: SECTOR_SIZE }
    : blockDeviceSectors(fd);
  if (bytes === 0 || bytes % logical !== 0) {
    throw new OperatorError(
      'DISK_SIZE',
      `disk ${path} has ${bytes} bytes, which is not a whole number of ${logical}-byte sectors`,
      'use a raw image, or enlarge it with truncate',
    );
  }
  refuseContainers(path, fd, bytes);
  const discard = !options.readonly && options.discard !== false && stat.isFile() && punches(fd, bytes);
  return {
    sectors: bytes / SECTOR_SIZE,
    sectorSize: logical,
    physicalSectorSize: physical,
    readonly: options.readonly,
    discardGranularity: discard ? Math.max(stat.blksize, logical) : undefined,
  };
}

/** A container format handed to the guest as raw would be read as garbage and destroyed by the first write. */
function refuseContainers(path: string, fd: number, bytes: number): void {
  const magic = Buffer.alloc(4);
  if (bytes < 4 || readSync(fd, magic, 0, 4, 0) < 4) return;
  if (magic.equals(Buffer.from('QFI\xfb', 'latin1'))) {
    throw new OperatorError('DISK_FORMAT', `disk ${path} is a qcow2 image`, 'convert it with qemu-img convert -O raw');
  }
}

/** Whether the file system punches holes: tried behind the end, where there is nothing to lose. */
const punches = (fd: number, bytes: number): boolean => punchHole(fd, bytes, 4096) === 0;

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
function majorMinor(device: number): string {
  const rdev = BigInt(device);
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major.toString(16)}:${minor.toString(16)}`;
}
