/** Counters of a queue: a worker counts, the main thread reads. Doubles in shared memory, one writer. */

const NAMES = [
  'txPackets',
  'txBytes',
  'txSlots',
  /** Packets by the rules of the ring: too many slots, sizes that do not add up. */
  'txDropSlots',
  /** A slot's grant could not be mapped. */
  'txDropGrant',
  /** Offloaded work on headers that are not what it needs. */
  'txDropHeaders',
  /** The link did not take the frame. */
  'txDropLink',
  /** Frames while the operator had the link down. */
  'txDropDown',
  'txCreditWaits',
  'rxPackets',
  'rxBytes',
  'rxSlots',
  /** Frames the frontend never posted buffers for in time. */
  'rxDropExpired',
  /** Frames the frontend cannot take: too long, not segmented. */
  'rxDropUnfit',
  /** Frames with a slot whose grant could not be written. */
  'rxDropGrant',
  /** Frames to multicast groups the frontend does not want. */
  'rxDropFiltered',
  /** Frames for a queue whose inbox was full. */
  'rxDropHandover',
  'rxDropDown',
  'rxStalls',
  'linkErrors',
  'spuriousEvents',
] as const;

export type CounterName = (typeof NAMES)[number];
export type QueueStats = Readonly<Record<CounterName, number>>;

/** Index of each counter. */
export const Counter = Object.freeze(Object.fromEntries(NAMES.map((name, i) => [name, i]))) as Readonly<
  Record<CounterName, number>
>;

export const COUNTER_BYTES = NAMES.length * 8;

export function readStats(counters: Float64Array): QueueStats {
  return Object.fromEntries(NAMES.map((name, i) => [name, counters[i]!])) as QueueStats;
}

/** Sums over all queues of a vif. */
export function sumStats(queues: readonly QueueStats[]): QueueStats {
  return Object.fromEntries(NAMES.map((name) => [name, queues.reduce((sum, queue) => sum + queue[name], 0)])) as QueueStats;
}
