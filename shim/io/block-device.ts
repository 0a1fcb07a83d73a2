/** Geometry of block devices and hole punching, by narrow names. */
import { native } from '../../kvm/native.js';

/** Bytes (BLKGETSIZE64). */
export const blockDeviceSize = (fd: number): number => native.blockDeviceSize(fd);

/** Logical and physical sector size in bytes (BLKSSZGET, BLKPBSZGET). */
export const blockDeviceSectors = (fd: number): { logical: number; physical: number } => native.blockDeviceSectors(fd);

/** What O_DIRECT asks of addresses, and of positions and lengths (STATX_DIOALIGN); undefined where nobody tells. */
export const directAlignment = (fd: number): { memory: number; offset: number } | undefined => native.directAlignment(fd);

/** FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, as fallocate(2) and io_uring take it. */
export const PUNCH_HOLE = 3;

/** Deallocates a range, which reads as zeros afterwards; 0 or a positive Linux errno. */
export const punchHole = (fd: number, offset: number, length: number): number => native.punchHole(fd, offset, length);
