/** What the driver (main thread) and a worker of a disk say to each other. Structured-clonable. */
import type { RamRange } from '../../shim/memory/guest-memory.js';
import type { GuestHandles } from '../../shim/memory/attach.js';
import type { TargetNews } from './target/report.js';
import type { Target, TargetPlace } from './target/target.js';

export interface WorkerSettings {
  readonly guest: GuestHandles;
  readonly place: TargetPlace;
  readonly target: Target;
  /** From statisticsBuffer, one set of counters per queue there may be. */
  readonly statistics: SharedArrayBuffer;
}

export interface QueueSettings {
  /** Which one it is of the disk's; absent = its place in the list. */
  readonly number?: number;
  /** Grant references of the ring's pages, in order. */
  readonly ringRefs: readonly number[];
  readonly kickFd: number;
  readonly callFd: number;
}

export type ProtocolName = 'x86_64-abi' | 'x86_32-abi';

/** What the operator should know of a queue; none of it ends anything. */
export type Alert =
  /** A frontend had a persistent gref mapped twice at a time; told at most once in five seconds. */
  | 'duplicate-gref'
  /** A frontend uses more persistent grants than are kept; told once per connection. */
  | 'grant-overflow'
  /** A request failed because the host has no memory for bounce pages; told once per connection. */
  | 'no-memory';

export type WorkerRequest =
  /** Map the rings and begin. XenError if a ring cannot be mapped or its indexes are impossible. */
  | {
      readonly kind: 'connect';
      readonly protocol: ProtocolName;
      readonly queues: readonly QueueSettings[];
      readonly persistent: boolean;
    }
  /** Take no more, wait for what is in flight, answer it, let go of the events. */
  | { readonly kind: 'drain' }
  /** Give the rings back. */
  | { readonly kind: 'release' }
  /** The disk has another size: counts for every request taken from now on. If smaller, what is in flight is waited for. */
  | { readonly kind: 'resize'; readonly sectors: number }
  /** Free bounce pages a queue keeps from now on. */
  | { readonly kind: 'max-buffer-pages'; readonly pages: number }
  /** Guest RAM has a new layout. */
  | { readonly kind: 'remap'; readonly ram: readonly RamRange[] };

export type WorkerEvent =
  /** Once the worker has mapped the guest: its number in the grant table. */
  | { readonly kind: 'attached'; readonly thread: number }
  /** The frontend claimed more requests than its ring holds; that ring is not served any more. */
  | { readonly kind: 'halted'; readonly queue: number }
  | { readonly kind: 'alert'; readonly alert: Alert; readonly queue: number }
  | { readonly kind: 'target'; readonly news: TargetNews };
