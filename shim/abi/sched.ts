/** public/sched.h: SCHEDOP_*, their arguments and the reasons of a shutdown. */
import { constants } from './constants.js';
import { s32, struct, u16, u32, u64 } from './struct.js';

const header = 'sched.h';

export const SchedOp = constants(
  header,
  {
    yield: 0,
    block: 1,
    shutdown: 2,
    poll: 3,
    remote_shutdown: 4,
    shutdown_code: 5,
    watchdog: 6,
    pin_override: 7,
  },
  'SCHEDOP_',
);

/** SHUTDOWN_*. */
export const ShutdownReason = constants(
  header,
  {
    poweroff: 0,
    reboot: 1,
    suspend: 2,
    crash: 3,
    watchdog: 4,
    soft_reset: 5,
  },
  'SHUTDOWN_',
);
export type ShutdownReason = (typeof ShutdownReason)[keyof typeof ShutdownReason];
export const SHUTDOWN_MAX = 5;

export const SchedShutdown = struct(
  { c: 'struct sched_shutdown', header, abi: 'any', size: 4 },
  { reason: u32(0) },
);
export const SchedPoll64 = struct(
  { c: 'struct sched_poll', header, abi: 'x86_64', size: 24 },
  { ports: u64(0), nr_ports: u32(8), timeout: u64(16) },
);
export const SchedPoll32 = struct(
  { c: 'struct sched_poll', header, abi: 'x86_32', size: 16 },
  { ports: u32(0), nr_ports: u32(4), timeout: u64(8) },
);
export const SchedRemoteShutdown = struct(
  { c: 'struct sched_remote_shutdown', header, abi: 'any', size: 8 },
  { domain_id: u16(0), reason: u32(4) },
);
export const SchedWatchdog = struct(
  { c: 'struct sched_watchdog', header, abi: 'any', size: 8 },
  { id: u32(0), timeout: u32(4) },
);
export const SchedPinOverride = struct(
  { c: 'struct sched_pin_override', header, abi: 'any', size: 4 },
  { pcpu: s32(0) },
);
