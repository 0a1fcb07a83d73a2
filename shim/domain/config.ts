/** What the toolstack decides about a guest before it is made. */
import { ShutdownReason } from '../abi/sched.js';
import type { PowerAction } from '../../kvm/bridge.js';

/**
 * What follows a shutdown, as in a domain's configuration file (xl.cfg): end it, reset the machine, or keep it as it
 * stands, its vCPUs held. `panic`: whatever QEMU was told to do about a guest that panics.
 */
export type ShutdownAction = 'destroy' | 'restart' | 'preserve' | 'panic';

export interface OnShutdown {
  readonly poweroff: ShutdownAction;
  readonly reboot: ShutdownAction;
  readonly crash: ShutdownAction;
  readonly watchdog: ShutdownAction;
  /** `soft-reset`: the guest goes on with its next kernel, and there is no shutdown at all. */
  readonly softReset: ShutdownAction | 'soft-reset';
}

/** A watchdog that barks is a guest that hangs: as bad as a panic. */
export const DEFAULT_ON_SHUTDOWN: OnShutdown = Object.freeze({
  poweroff: 'destroy',
  reboot: 'restart',
  crash: 'panic',
  watchdog: 'panic',
  softReset: 'soft-reset',
});

export interface DomainConfig {
  readonly name: string;
  /** Default 1. */
  readonly domid?: number;
  /** 16 bytes; default all zero. */
  readonly uuid?: Uint8Array;
  /**
   * Event-channel ABIs offered: the 2-level one alone (default), which the kernel carries out, or the FIFO one as well,
   * for which this process does the kernel's work.
   */
  readonly eventChannels?: '2l' | 'fifo';
  /** The highest event channel a guest may get; default 1023, as libxl, and with FIFO all that ABI has. */
  readonly maxEventChannel?: number;
  /** Default 64. */
  readonly maxGrantFrames?: number;
  /** The highest version of grant tables offered; default 1. */
  readonly maxGrantVersion?: 1 | 2;
  readonly onShutdown?: OnShutdown;
}

const POWER: Readonly<Record<ShutdownAction | 'soft-reset', PowerAction>> = Object.freeze({
  destroy: 'poweroff',
  restart: 'reset',
  preserve: 'hold',
  panic: 'crash',
  'soft-reset': 'reset',
});

/** What the machine is told when the guest has shut down for `reason`. */
export function powerFor(reason: ShutdownReason, on: OnShutdown): PowerAction {
  switch (reason) {
    case ShutdownReason.poweroff:
    case ShutdownReason.suspend:
      return POWER[on.poweroff];
    case ShutdownReason.reboot:
      return POWER[on.reboot];
    case ShutdownReason.crash:
      return POWER[on.crash];
    case ShutdownReason.watchdog:
      return POWER[on.watchdog];
    case ShutdownReason.soft_reset:
      return POWER[on.softReset];
  }
}
