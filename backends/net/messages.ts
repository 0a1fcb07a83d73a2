/** What the main thread and a vif's worker say to each other. */
import type { GuestHandles } from '../../shim/memory/attach.js';
import type { Offloads } from './link.js';
import type { Rate } from './rate.js';
import type { VifChannels, VifReport } from './vif-loop.js';

/** What the worker is started with. */
export interface VifWorkerData {
  readonly handles: GuestHandles;
  /** Counters of the queue, Float64 (stats.ts). */
  readonly counters: SharedArrayBuffer;
}

/** One connection to a frontend. */
export interface VifConnect {
  readonly kind: 'connect';
  readonly linkFd: number;
  readonly txRef: number;
  readonly rxRef: number;
  readonly channels: VifChannels;
  readonly offloads: Offloads;
  readonly scatterGather: boolean;
  readonly notifies: boolean;
  readonly rate: Rate;
  readonly control: SharedArrayBuffer;
  readonly bellFd: number;
}

export type ToVifWorker = VifConnect | { readonly kind: 'close' };

export type FromVifWorker =
  | { readonly kind: 'connected' }
  | { readonly kind: 'refused'; readonly errno: number; readonly text: string }
  /** The loop is over: rings, grants and descriptors are no longer used. */
  | { readonly kind: 'stopped' }
  | VifReport;
