/**
 * QEMU's image locks (block/file-posix.c): open-file-description locks on single bytes of the image, the same for
 * everyone who opens it through QEMU's block layer. A byte at 100 + n says "I use permission n", one at 200 + n says
 * "nobody else may use permission n". All locks are shared ones; a conflict is seen by looking, after taking one's own.
 */
import { native } from '../../kvm/native.js';

const PERM_BASE = 100;
const SHARED_BASE = 200;
/** Bit numbers of BLK_PERM_*. */
const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;

/** What a disk that belongs to one guest needs, and what it forbids others: as QEMU does for a drive with share-rw=off. */
const FORBIDDEN = [WRITE, RESIZE];

/**
 * Takes the locks of a guest's disk on an open image.
 * @returns false if another process (or another disk of this one) holds it in a way that conflicts
 * @throws Error with errno when the file system has no locks
 */
export function lockImage(fd: number, readonly: boolean): boolean {
  const used = readonly ? [CONSISTENT_READ] : [CONSISTENT_READ, WRITE];
  for (const bit of used) if (!native.lockShared(fd, PERM_BASE + bit, 1)) return false;
  for (const bit of FORBIDDEN) if (!native.lockShared(fd, SHARED_BASE + bit, 1)) return false;
  return (
    FORBIDDEN.every((bit) => !native.lockHeld(fd, PERM_BASE + bit, 1)) &&
    used.every((bit) => !native.lockHeld(fd, SHARED_BASE + bit, 1))
  );
}

/**
 * Gives the locks up. Closing would, but not soon: an io_uring that had the image among its files lets go of it some time
 * after it was closed itself.
 */
export function unlockImage(fd: number): void {
  native.unlock(fd, PERM_BASE, SHARED_BASE - PERM_BASE + 100);
}
