/** What `npm run bench:net` measures, and what the project asks of itself. */
export interface NetCase {
  readonly name: string;
  readonly way: 'tx' | 'rx' | 'rr';
  /** Bytes of a frame. */
  readonly bytes: number;
  /** Frames are unsegmented TCP. */
  readonly gso: boolean;
  /** Different frames in rotation. Unsegmented ones fill more than a core keeps in its own caches, as those of a guest do. */
  readonly frames: number;
  readonly overLimit?: number;
  readonly overCeiling?: number;
}

const big = { bytes: 65_214, gso: true, frames: 64 };
const usual = { bytes: 1514, gso: false, frames: 256 };
const small = { bytes: 64, gso: false, frames: 256 };

export const CASES: readonly NetCase[] = [
  { name: 'tx-64k-gso', way: 'tx', ...big, overLimit: 1.15, overCeiling: 0.95 },
  { name: 'rx-64k-gso', way: 'rx', ...big, overLimit: 1, overCeiling: 0.95 },
  { name: 'tx-1500', way: 'tx', ...usual, overLimit: 1, overCeiling: 0.95 },
  { name: 'rx-1500', way: 'rx', ...usual, overLimit: 1.2, overCeiling: 0.95 },
  { name: 'tx-64', way: 'tx', ...small, overLimit: 0.95, overCeiling: 0.9 },
  { name: 'rx-64', way: 'rx', ...small, overLimit: 0.95, overCeiling: 0.9 },
  { name: 'rr-1', way: 'rr', ...small, overCeiling: 0.9 },
];
