/** What a block device does with discards, and having it done. */
import { existsSync, readFileSync } from 'node:fs';

import { native } from '../../kvm/native.js';
import type { NativeDiscarder } from '../../kvm/native.js';

/** In bytes. */
export interface DiscardLimits {
  readonly granularity: number;
  /** Where the first whole piece begins. */
  readonly alignment: number;
  /** Secure erase, too. */
  readonly secure: boolean;
}

/**
 * Linux tells the limits in /sys (Documentation/ABI/stable/sysfs-block), a partition's queue being its disk's.
 * @param device `major:minor` in decimal
 * @param fd the device, open for writing
 * @returns undefined where the device does not discard
 */
export function discardLimits(device: string, fd: number): DiscardLimits | undefined {
  const folder = `/sys/dev/block/${device}`;
  const read = (name: string): number => Number(readFileSync(`${folder}/${name}`, 'utf8'));
  try {
    // The folder is a link, which the kernel follows before it goes up.
    const queue = existsSync(`${folder}/partition`) ? '../queue' : 'queue';
    if (read(`${queue}/discard_max_bytes`) === 0) return undefined;
    const granularity = Math.max(512, read(`${queue}/discard_granularity`));
    // -1 = no alignment fits.
    return { granularity, alignment: Math.max(0, read('discard_alignment')), secure: native.secureErase(fd) };
  } catch {
    // No /sys, or none of this device: what is not known is not offered.
    return undefined;
  }
}

/** Bytes a device discards at once: while it does, reads through the page cache may have to wait. */
const PIECE = 64 * 1024 * 1024;
/** Discards told of at once. */
const TOLD = 64;

export class Discarder {
  private readonly native: NativeDiscarder;
  private readonly told = new Int32Array(2 * TOLD);
  private outstanding = 0;

  /**
   * @param fd stays the caller's, open until `close`
   * @param bell eventfd that is signalled when a discard is done; likewise
   */
  constructor(fd: number, bell: number, { granularity, alignment }: Pick<DiscardLimits, 'granularity' | 'alignment'>) {
    this.native = new native.Discarder(fd, bell, Math.ceil(PIECE / granularity) * granularity, alignment);
  }

  /** @param id comes back with the result. Offset and length in bytes, of whole sectors. */
  push(id: number, offset: number, length: number, secure: boolean): void {
    this.outstanding++;
    this.native.push(id, offset, length, secure);
  }

  /** Discards that are done and not told of yet; read with `id` and `result` until the next call. */
  take(): number {
    if (this.outstanding === 0) return 0;
    const count = this.native.take(this.told);
    this.outstanding -= count;
    return count;
  }

  id(at: number): number {
    return this.told[2 * at]!;
  }

  /** 0 or a negative Linux errno. */
  result(at: number): number {
    return this.told[2 * at + 1]!;
  }

  /** While true, discards end with -ECANCELED as soon as the piece under way is done. */
  abandon(yes: boolean): void {
    this.native.abandon(yes);
  }

  /** Waits for the piece under way. */
  close(): void {
    this.native.close();
  }
}
