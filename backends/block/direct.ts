/** O_DIRECT: what a file or device asks of buffers and positions when the page cache is left out. */
import { constants, readSync } from 'node:fs';

import { SECTOR_SIZE } from '../../shim/abi/io/blkif.js';
import { blockDeviceSectors, directAlignment } from '../../shim/io/block-device.js';
import { arena } from '../../shim/io/memory.js';
import { OperatorError } from '../../shim/observe/errors.js';

export const DIRECT = constants.O_DIRECT;

/** Most that is asked of a buffer: bounce pages are aligned to pages. */
const PAGE_SIZE = 4096;

export interface DirectAlignment {
  /** Bytes that buffers' addresses are to be multiples of. */
  readonly memory: number;
  /** Bytes that positions and lengths are to be multiples of. */
  readonly offset: number;
}

/**
 * Of a file or device opened with O_DIRECT: what the kernel says (STATX_DIOALIGN, Linux 6.1), else the sectors of a
 * device, else what a read is content with.
 * @throws OperatorError DISK_DIRECT
 */
export function alignmentOf(path: string, fd: number, isDevice: boolean): DirectAlignment {
  const found = directAlignment(fd) ?? (isDevice ? sectorsOf(fd) : probed(fd));
  if (found === undefined || found.offset > PAGE_SIZE || found.memory > PAGE_SIZE) throw noDirect(path);
  return { memory: Math.max(found.memory, 1), offset: Math.max(found.offset, SECTOR_SIZE) };
}

export const noDirect = (path: string): OperatorError =>
  new OperatorError('DISK_DIRECT', `disk ${path} cannot be used with O_DIRECT`, 'leave direct out, or keep it on another file system');

function sectorsOf(fd: number): DirectAlignment {
  const { logical } = blockDeviceSectors(fd);
  return { memory: logical, offset: logical };
}

/** Reads of 512 and of 4096 bytes at an address that is a multiple of just that. */
function probed(fd: number): DirectAlignment | undefined {
  const size = [SECTOR_SIZE, PAGE_SIZE].find((bytes) => {
    try {
      readAligned(fd, bytes, PAGE_SIZE - bytes);
      return true;
    } catch {
      return false;
    }
  });
  return size === undefined ? undefined : { memory: size, offset: size };
}

/** The first bytes of a file, read so that O_DIRECT is content. @param at byte offset of the buffer in its page */
export function readAligned(fd: number, bytes: number, at = 0): Buffer {
  const memory = arena(2 * PAGE_SIZE);
  try {
    const buffer = Buffer.from(memory.i32.buffer as ArrayBuffer, at, bytes);
    const read = readSync(fd, buffer, 0, bytes, 0);
    return Buffer.from(buffer.subarray(0, read));
  } finally {
    memory.free();
  }
}
