/** What is left to do of a request, as bits; the lowest one is under way. */
export const Phase = Object.freeze({
  /** fdatasync before the data: what was answered earlier is durable first. */
  FLUSH_BEFORE: 1,
  /** The transfer between guest pages and disk. */
  DATA: 2,
  /** fdatasync after the data: the data itself is durable. */
  FLUSH_AFTER: 4,
  DISCARD: 8,
  /** Only where the target says that it can. */
  SECURE_DISCARD: 16,
} as const);
