/** What the driver (main thread) and the worker of a vif say to each other. Structured-clonable. */
import type { GuestHandles } from '../../shim/memory/attach.js';
import type { RamRange } from '../../shim/memory/guest-memory.js';
import type { Offloads } from './link.js';
import type { Rate } from './rate.js';

export interface VifWorkerSettings {
  readonly guest: GuestHandles;
  /** The link; stays open until the thread has ended. */
  readonly linkFd: number;
  /** Counters of the queue, Float64 (stats.ts). */
  readonly counters: SharedArrayBuffer;
}

/** Eventfds of the two rings' event channels; the same ones unless the frontend asked for two. */
export interface VifChannels {
  readonly txKick: number;
  readonly txCall: number;
  readonly rxKick: number;
  readonly rxCall: number;
}

/** One connection to a frontend. */
export interface VifConnect {
  readonly txRef: number;
  readonly rxRef: number;
  readonly channels: VifChannels;
  readonly offloads: Offloads;
  readonly scatterGather: boolean;
  readonly notifies: boolean;
  readonly rate: Rate;
}

export type VifRequest =
  /** Map the rings and begin. XenError if a ring cannot be mapped or its indexes are impossible. */
  | { readonly kind: 'connect'; readonly connect: VifConnect }
  /** Let go of rings, grants and events. */
  | { readonly kind: 'disconnect' }
  /** A new limit on what the guest transmits. */
  | { readonly kind: 'rate'; readonly rate: Rate }
  /** Guest RAM has a new layout. */
  | { readonly kind: 'remap'; readonly ram: readonly RamRange[] };

export type VifReport =
  /** The guest posts buffers again, or has posted none for a minute. */
  | { readonly kind: 'carrier'; readonly on: boolean }
  /** The frontend broke the protocol; nothing moves until it reconnects. */
  | { readonly kind: 'disabled'; readonly reason: string };

export type VifEvent =
  /** Once the worker has mapped the guest: its number in the grant table. */
  { readonly kind: 'attached'; readonly thread: number } | VifReport;
