/** The bridge's shared layout and message numbers, as the native side defines them (kvm/core/protocol.h). */
import { native } from './native.js';

/** Byte offsets. */
export const layout = native.bridgeLayout;
/** Message numbers. */
export const Op = native.bridgeOps;

/** Slot states. */
export const SlotState = Object.freeze({ idle: 0, request: 1, done: 2 } as const);
/** Why a vCPU waits in its slot. */
export const SlotKind = Object.freeze({ hypercall: 0, reset: 1 } as const);
/** PowerAction. */
export const Power = Object.freeze({ poweroff: 1n, reset: 2n, crash: 3n, hold: 4n } as const);
/** "No address". */
export const NONE = 2n ** 64n - 1n;
