/** How a worker gets at the bytes. Structured-clonable; descriptors stay open until the thread has ended. */
export type TargetPlace =
  /** An open raw file or block device. */
  | { readonly kind: 'file'; readonly fd: number }
  /** Nowhere: what is written is gone, and reads leave the guest's pages as they are. */
  | { readonly kind: 'null' }
  /** A vhost-user back end that offers `queues` queues, met at a place of shim/io/unix-stream.ts. */
  | { readonly kind: 'vhost-user'; readonly placeFd: number; readonly queues: number };

/** What the request loop must know of the place bytes go to. Structured-clonable. */
export interface Target {
  /** Size in units of 512 bytes. */
  readonly sectors: number;
  /** Bytes; requests are multiples of it. */
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readonly: boolean;
  /** Granularity in bytes of what DISCARD gives back; undefined = cannot, or not wanted. */
  readonly discardGranularity: number | undefined;
  /** Bytes from the disk's beginning to the first whole piece of that granularity; absent = 0. */
  readonly discardAlignment?: number;
  /** It takes Phase.SECURE_DISCARD, too. */
  readonly discardSecure?: boolean;
  /** Bytes that buffers' addresses and lengths must be multiples of, a power of two up to a page; absent = any will do. */
  readonly alignment?: number;
}
