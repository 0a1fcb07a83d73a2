/** What `npm run bench:block` measures. */
export interface BlockCase {
  readonly name: string;
  readonly store: 'disk' | 'tmpfs' | 'null';
  readonly direct: boolean;
  readonly write: boolean;
  readonly random: boolean;
  /** Pages of 4 KiB a request. */
  readonly pages: number;
  readonly depth: number;
  /** The frontend sleeps on its event instead of spinning on the ring. */
  readonly event: boolean;
  /** Ratios the project asks of itself; undefined = none. */
  readonly overLimit?: number;
  readonly overPeer?: number;
}

type Asked = readonly [limit: number | undefined, peer: number | undefined];

/** A case from its name: STORE-[rand](read|write)-SIZEk-qdDEPTH-(poll|event). */
function parse(name: string, [overLimit, overPeer]: Asked): BlockCase {
  const match = /^(cached|tmpfs|direct|null)-(rand)?(read|write)-(\d+)k-qd(\d+)-(poll|event)$/.exec(name);
  if (match === null) throw new Error(`no such kind of case: ${name}`);
  const [, store, random, way, size, depth, pace] = match;
  return {
    name,
    store: store === 'tmpfs' || store === 'null' ? store : 'disk',
    direct: store === 'direct',
    write: way === 'write',
    random: random !== undefined,
    pages: Number(size) / 4,
    depth: Number(depth),
    event: pace === 'event',
    ...(overLimit === undefined ? {} : { overLimit }),
    ...(overPeer === undefined ? {} : { overPeer }),
  };
}

const ASKED: Readonly<Record<string, Asked>> = {
  'cached-randread-4k-qd32-poll': [1.15, 2.7],
  'cached-randread-4k-qd32-event': [0.85, 2.3],
  'cached-randread-4k-qd1-poll': [0.95, 2.3],
  'cached-randread-4k-qd1-event': [undefined, 3.7],
  'cached-randread-4k-qd128-poll': [1.07, 2.6],
  'cached-randwrite-4k-qd32-poll': [1.05, 2.3],
  'cached-read-128k-qd32-poll': [1.25, 1.15],
  'tmpfs-randread-4k-qd32-event': [1.4, 2.3],
  'direct-randread-4k-qd1-event': [1.0, 1.9],
  'direct-randread-4k-qd32-event': [0.97, 1.05],
  'direct-randwrite-4k-qd32-event': [0.97, 1.05],
  'direct-read-128k-qd32-event': [0.95, 1.1],
  'null-randread-4k-qd32-poll': [undefined, undefined],
};

/** CPU time of our own code per request that the null target is asked for, ns. */
export const NULL_CPU_NS = 80;

export const CASES: readonly BlockCase[] = Object.entries(ASKED).map(([name, asked]) => parse(name, asked));
