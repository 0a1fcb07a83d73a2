/**
 * How long requests took from the ring and back, counted in buckets a quarter of an octave wide. Times come from the
 * worker's clock, which is read once per batch of completions, so a bucket says when the batch was seen.
 */
import { BlkifOp } from '../../shim/abi/io/blkif.js';

const NAMES = ['read', 'write', 'flush', 'discard'] as const;
export type LatencyOp = (typeof NAMES)[number];
export const LATENCY_OPS = NAMES.length;

/** Row of each operation; barriers count as flushes. */
const ROW = new Uint8Array(BlkifOp.INDIRECT + 1);
ROW[BlkifOp.READ] = 0;
ROW[BlkifOp.WRITE] = 1;
ROW[BlkifOp.WRITE_BARRIER] = 2;
ROW[BlkifOp.FLUSH_DISKCACHE] = 2;
ROW[BlkifOp.DISCARD] = 3;

/** Four buckets per octave of microseconds; the last octave ends at 2^31 µs. */
export const LATENCY_BUCKETS = 120;

/** Bucket of a time in µs, rounded down: 0 to 3 each have one, after that each is at most a quarter of its beginning. */
export function bucketOf(us: number): number {
  const n = us > 0x7fff_ffff ? 0x7fff_ffff : us | 0;
  if (n < 4) return n < 0 ? 0 : n;
  const octave = 31 - Math.clz32(n);
  return ((octave - 1) << 2) | ((n >>> (octave - 2)) & 3);
}

/** Where a bucket begins (µs). */
export function bucketStart(bucket: number): number {
  return bucket < 4 ? bucket : (4 + (bucket & 3)) * 2 ** ((bucket >>> 2) - 1);
}

/** Times of the requests of one queue. */
export class Latency {
  private readonly startedAt: Float64Array;

  constructor(
    private readonly counts: Float64Array,
    /** The worker's clock (ms). */
    private readonly clock: Float64Array,
    tags: number,
  ) {
    this.startedAt = new Float64Array(tags);
  }

  started(tag: number): void {
    this.startedAt[tag] = this.clock[0]!;
  }

  /** @param op of the response */
  ended(tag: number, op: number): void {
    const us = (this.clock[0]! - this.startedAt[tag]!) * 1000;
    this.counts[ROW[op]! * LATENCY_BUCKETS + bucketOf(us)]! += 1;
  }
}

/** Times of one operation, in µs; each is the end of the bucket it is in, so at most a quarter too long. */
export interface LatencySummary {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Buckets that are not empty: where they begin, and how many requests. */
  readonly histogram: readonly (readonly [from: number, count: number])[];
}

export type LatencyReport = Readonly<Record<LatencyOp, LatencySummary>>;

/** @param counts LATENCY_OPS rows of LATENCY_BUCKETS */
export function latencies(counts: Float64Array): LatencyReport {
  const rows = NAMES.map((name, row) => [name, summary(counts.subarray(row * LATENCY_BUCKETS, (row + 1) * LATENCY_BUCKETS))]);
  return Object.fromEntries(rows) as LatencyReport;
}

function summary(row: Float64Array): LatencySummary {
  const count = row.reduce((sum, each) => sum + each, 0);
  const quantile = (share: number): number => {
    let seen = 0;
    for (let bucket = 0; bucket < row.length; bucket++) {
      seen += row[bucket]!;
      if (seen > 0 && seen >= share * count) return bucketStart(bucket + 1);
    }
    return 0;
  };
  const histogram = Array.from(row, (each, bucket) => [bucketStart(bucket), each] as const).filter(([, each]) => each > 0);
  return { count, p50: quantile(0.5), p99: quantile(0.99), max: quantile(1), histogram };
}
