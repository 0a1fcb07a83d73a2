/** What the driver (main thread) and the worker of a vif say to each other. Structured-clonable. */
import type { GuestHandles } from '../../shim/memory/attach.js';
import type { RamRange } from '../../shim/memory/guest-memory.js';
import type { CapturePlace } from './capture.js';
import type { Offloads } from './link.js';
import type { Rate } from './rate.js';

export interface VifWorkerSettings {
  readonly guest: GuestHandles;
  /** Counters of the queue, Float64 (stats.ts). */
  readonly counters: SharedArrayBuffer;
  /** What all queues share (vif-memory.ts). */
  readonly memory: SharedArrayBuffer;
}

export interface ControlWorkerSettings {
  readonly guest: GuestHandles;
  readonly memory: SharedArrayBuffer;
}

/** Eventfds of the two rings' event channels; the same ones unless the frontend asked for two. */
export interface VifChannels {
  readonly txKick: number;
  readonly txCall: number;
  readonly rxKick: number;
  readonly rxCall: number;
}

/** One queue of a connection to a frontend. */
export interface VifConnect {
  /** The queue's end of the link; stays open until the queue has disconnected. */
  readonly linkFd: number;
  /** As Link has it. */
  readonly linkWaits: boolean;
  readonly linkPlain: boolean;
  readonly txRef: number;
  readonly rxRef: number;
  readonly channels: VifChannels;
  readonly offloads: Offloads;
  readonly scatterGather: boolean;
  readonly notifies: boolean;
  readonly rate: Rate;
  readonly settings: VifLive;
  /** Default: the only queue. */
  readonly place?: QueuePlace;
  readonly capture?: CapturePlace;
}

/** What may change while a vif is connected. */
export interface VifLive {
  /** Bytes left free in front of a frame in its first slot. */
  readonly xdpHeadroom: number;
  /** False: the operator has taken the link down, and frames are dropped both ways. */
  readonly up: boolean;
}

/** A queue among several. */
export interface QueuePlace {
  readonly index: number;
  readonly count: number;
  /** With a control ring: inboxes of the queues (handover.ts), and the eventfd that wakes each. */
  readonly handover?: { readonly memory: SharedArrayBuffer; readonly kicks: readonly number[] };
}

/** A control ring. */
export interface ControlConnect {
  readonly ref: number;
  readonly kick: number;
  readonly call: number;
  readonly queues: number;
}

export type ControlRequest =
  | { readonly kind: 'connect'; readonly connect: ControlConnect }
  | { readonly kind: 'remap'; readonly ram: readonly RamRange[] };

export type VifRequest =
  /** Map the rings and begin. XenError if a ring cannot be mapped or its indexes are impossible. */
  | { readonly kind: 'connect'; readonly connect: VifConnect }
  /** Let go of rings, grants and events. */
  | { readonly kind: 'disconnect' }
  /** A new limit on what the guest transmits. */
  | { readonly kind: 'rate'; readonly rate: Rate }
  | { readonly kind: 'live'; readonly settings: VifLive }
  /** Another queue's frontend broke the protocol. */
  | { readonly kind: 'disable' }
  /** Guest RAM has a new layout. */
  | { readonly kind: 'remap'; readonly ram: readonly RamRange[] };

export type VifReport =
  /** The guest posts buffers again, or has posted none for a minute. */
  | { readonly kind: 'carrier'; readonly on: boolean }
  /** The frontend broke the protocol; nothing moves until it reconnects. */
  | { readonly kind: 'disabled'; readonly reason: string };

export type VifEvent =
  /** Once the worker has mapped the guest: its number in the grant table. */
  | { readonly kind: 'attached'; readonly thread: number }
  /** The control ring's index cannot be right: no request is answered until the frontend reconnects. */
  | { readonly kind: 'controlDead' }
  | VifReport;
