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
  /** Bytes that buffers' addresses and lengths must be multiples of, a power of two up to a page; absent = any will do. */
  readonly alignment?: number;
}
