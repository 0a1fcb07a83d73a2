/**
 * What a queue counts, in memory the main thread reads at any time: counters as Linux's blkback names them, gauges, and
 * latencies (latency.ts) behind them.
 */
import { LATENCY_OPS, LATENCY_BUCKETS, latencies } from './latency.js';
import type { LatencyReport } from './latency.js';

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
  /** Looks at the ring that found every slot in use: the frontend had to wait for us. */
  ring_full: 8,
  /** Persistent grants held, and how many of them requests in flight use: gauges. */
  persistent: 9,
  persistent_in_use: 10,
  /** Persistent grants given up because nobody used them, or others needed the room. */
  purged: 11,
  /** Pages mapped for one request only, because the limit of persistent grants was reached. */
  grant_overflow: 12,
  /** A gref that was mapped while it was persistent. */
  duplicate_grefs: 13,
  /** Requests that went through bounce pages. */
  bounced: 14,
  /** Times a request had to stay in the ring until bounce pages came back. */
  bounce_waits: 15,
  /** Bounce pages there are, and how many of them are free: gauges. */
  buffer_pages: 16,
  free_buffer_pages: 17,
} as const);

const COUNTERS = Object.keys(Counter).length;
const LATENCIES = LATENCY_OPS * LATENCY_BUCKETS;
/** Numbers of a queue. */
const NUMBERS = COUNTERS + LATENCIES;
const BYTES = Float64Array.BYTES_PER_ELEMENT;

export type CounterName = keyof typeof Counter;
export type BlockStatistics = Record<CounterName, number>;

export interface BlockReport {
  /** Sums over the queues. */
  readonly total: BlockStatistics;
  readonly latency: LatencyReport;
  readonly queues: readonly BlockStatistics[];
}

export const statisticsBuffer = (queues: number): SharedArrayBuffer => new SharedArrayBuffer(queues * NUMBERS * BYTES);

/** The counters of one queue. */
export const queueCounters = (buffer: SharedArrayBuffer, queue: number): Float64Array =>
  new Float64Array(buffer, queue * NUMBERS * BYTES, COUNTERS);

/** The latency counts of one queue. */
export const queueLatencies = (buffer: SharedArrayBuffer, queue: number): Float64Array =>
  new Float64Array(buffer, (queue * NUMBERS + COUNTERS) * BYTES, LATENCIES);

const queuesOf = (buffer: SharedArrayBuffer): number => buffer.byteLength / (NUMBERS * BYTES);

/** Sums over all queues. */
export function readStatistics(buffer: SharedArrayBuffer): BlockStatistics {
  const all = new Float64Array(buffer);
  const sum = (counter: number): number => {
    let total = 0;
    for (let i = counter; i < all.length; i += NUMBERS) total += all[i]!;
    return total;
  };
  return named(sum);
}

/** Everything, for whoever asks while the disk is in use. */
export function readReport(buffer: SharedArrayBuffer): BlockReport {
  const indexes = Array.from({ length: queuesOf(buffer) }, (_, queue) => queue);
  const queues = indexes.map((queue) => {
    const counters = queueCounters(buffer, queue);
    return named((counter) => counters[counter]!);
  });
  const sums = new Float64Array(LATENCIES);
  for (const queue of indexes) queueLatencies(buffer, queue).forEach((count, i) => (sums[i]! += count));
  return { total: readStatistics(buffer), latency: latencies(sums), queues };
}

const named = (value: (counter: number) => number): BlockStatistics =>
  Object.fromEntries(Object.entries(Counter).map(([name, at]) => [name, value(at)])) as BlockStatistics;
