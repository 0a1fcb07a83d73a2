/** public/vcpu.h: VCPUOP_* and their arguments. */
import { constants } from './constants.js';
import { bytes, s32, struct, u32, u64 } from './struct.js';

const header = 'vcpu.h';

export const VcpuOp = constants(
  header,
  {
    initialise: 0,
    up: 1,
    down: 2,
    is_up: 3,
    get_runstate_info: 4,
    register_runstate_memory_area: 5,
    set_periodic_timer: 6,
    stop_periodic_timer: 7,
    set_singleshot_timer: 8,
    stop_singleshot_timer: 9,
    register_vcpu_info: 10,
    send_nmi: 11,
    get_physid: 12,
    register_vcpu_time_memory_area: 13,
  },
  'VCPUOP_',
);

/** Added with Xen 4.18; older headers do not have them. */
export const VcpuPhysAreaOp = Object.freeze({
  register_runstate_phys_area: 14,
  register_vcpu_time_phys_area: 15,
} as const);

/** VCPU_SSHOTTMR_future: fail with -ETIME when the time has passed; Xen since 4.14 ignores it. */
export const SINGLESHOT_FUTURE = 1;

export const VcpuRunstateInfo64 = struct(
  { c: 'struct vcpu_runstate_info', header, abi: 'x86_64', size: 48 },
  { state: s32(0), state_entry_time: u64(8), time: bytes(16, 32) },
);
export const VcpuRunstateInfo32 = struct(
  { c: 'struct vcpu_runstate_info', header, abi: 'x86_32', size: 44 },
  { state: s32(0), state_entry_time: u64(4), time: bytes(12, 32) },
);
export const VcpuRegisterRunstateMemoryArea = struct(
  {
    c: 'struct vcpu_register_runstate_memory_area',
    header,
    abi: 'any',
    size: 8,
    members: { addr: 'addr.p' },
  },
  { addr: u64(0) },
);
export const VcpuSetPeriodicTimer = struct(
  { c: 'struct vcpu_set_periodic_timer', header, abi: 'any', size: 8 },
  { period_ns: u64(0) },
);
export const VcpuSetSingleshotTimer64 = struct(
  { c: 'struct vcpu_set_singleshot_timer', header, abi: 'x86_64', size: 16 },
  { timeout_abs_ns: u64(0), flags: u32(8) },
);
export const VcpuSetSingleshotTimer32 = struct(
  { c: 'struct vcpu_set_singleshot_timer', header, abi: 'x86_32', size: 12 },
  { timeout_abs_ns: u64(0), flags: u32(8) },
);
export const VcpuRegisterVcpuInfo = struct(
  { c: 'struct vcpu_register_vcpu_info', header, abi: 'any', size: 16 },
  { mfn: u64(0), offset: u32(8) },
);
export const VcpuGetPhysid = struct(
  { c: 'struct vcpu_get_physid', header, abi: 'any', size: 8 },
  { phys_id: u64(0) },
);
export const VcpuRegisterTimeMemoryArea = struct(
  { c: 'struct vcpu_register_time_memory_area', header, abi: 'any', size: 8, members: { addr: 'addr.p' } },
  { addr: u64(0) },
);
