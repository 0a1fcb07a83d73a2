/** Counters of a queue, as Linux's blkback names them, in memory the main thread reads at any time. */
export const Counter = Object.freeze({
  /** Times no record was free. */
  oo_req: 0,
  rd_req: 1,
  wr_req: 2,
  /** Flushes and barriers. */
  f_req: 3,
  ds_req: 4,
  rd_sect: 5,
  wr_sect: 6,
  /** Responses other than OKAY. */
  errors: 7,
} as const);

const COUNTERS = Object.keys(Counter).length;

export type CounterName = keyof typeof Counter;
export type BlockStatistics = Record<CounterName, number>;

export const statisticsBuffer = (queues: number): SharedArrayBuffer =>
  new SharedArrayBuffer(queues * COUNTERS * Float64Array.BYTES_PER_ELEMENT);

/** The counters of one queue. */
export const queueCounters = (buffer: SharedArrayBuffer, queue: number): Float64Array =>
  new Float64Array(buffer, queue * COUNTERS * Float64Array.BYTES_PER_ELEMENT, COUNTERS);

/** Sums over all queues. */
export function readStatistics(buffer: SharedArrayBuffer): BlockStatistics {
  const all = new Float64Array(buffer);
  const sum = (counter: number): number => {
    let total = 0;
    for (let i = counter; i < all.length; i += COUNTERS) total += all[i]!;
    return total;
  };
  return Object.fromEntries(Object.entries(Counter).map(([name, at]) => [name, sum(at)])) as BlockStatistics;
}
