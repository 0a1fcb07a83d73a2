/** public/xen.h: hypercall numbers, domain ids, virtual interrupts, vcpu_info and shared_info in both widths. */
import { constants } from './constants.js';
import { bytes, s8, struct, u32, u64, u8 } from './struct.js';

/** __HYPERVISOR_*: the number a guest puts in RAX. */
export const HypercallNumber = constants(
  'xen.h',
  {
    set_trap_table: 0,
    mmu_update: 1,
    set_gdt: 2,
    stack_switch: 3,
    set_callbacks: 4,
    fpu_taskswitch: 5,
    sched_op_compat: 6,
    platform_op: 7,
    set_debugreg: 8,
    get_debugreg: 9,
    update_descriptor: 10,
    memory_op: 12,
    multicall: 13,
    update_va_mapping: 14,
    set_timer_op: 15,
    event_channel_op_compat: 16,
    xen_version: 17,
    console_io: 18,
    physdev_op_compat: 19,
    grant_table_op: 20,
    vm_assist: 21,
    update_va_mapping_otherdomain: 22,
    iret: 23,
    vcpu_op: 24,
    set_segment_base: 25,
    mmuext_op: 26,
    xsm_op: 27,
    nmi_op: 28,
    sched_op: 29,
    callback_op: 30,
    xenoprof_op: 31,
    event_channel_op: 32,
    physdev_op: 33,
    hvm_op: 34,
    sysctl: 35,
    domctl: 36,
    kexec_op: 37,
    tmem_op: 38,
    argo_op: 39,
    xenpmu_op: 40,
    dm_op: 41,
    hypfs_op: 42,
  },
  '__HYPERVISOR_',
);

/** domid_t values (DOMID_*); BACKEND is dom0, where our backends live. */
export const Domid = Object.freeze({
  BACKEND: 0,
  FIRST_RESERVED: 0x7ff0,
  SELF: 0x7ff0,
  IO: 0x7ff1,
  XEN: 0x7ff2,
  COW: 0x7ff3,
  INVALID: 0x7ff4,
  IDLE: 0x7fff,
} as const);

export const Virq = constants(
  'xen.h',
  {
    TIMER: 0,
    DEBUG: 1,
    CONSOLE: 2,
    DOM_EXC: 3,
    TBUF: 4,
    DEBUGGER: 6,
    XENOPROF: 7,
    CON_RING: 8,
    PCPU_STATE: 9,
    MEM_EVENT: 10,
    ARGO: 11,
    ENOMEM: 12,
    XENPMU: 13,
  },
  'VIRQ_',
);
export const NR_VIRQS = 24;

export const VmAssistCommand = constants('xen.h', { enable: 0, disable: 1 }, 'VMASST_CMD_');
export const VmAssistType = constants('xen.h', { runstate_update_flag: 5 }, 'VMASST_TYPE_');

/** vCPUs that have a vcpu_info of their own inside shared_info; the others must register one (XEN_LEGACY_MAX_VCPUS). */
export const LEGACY_MAX_VCPUS = 32;

export const VcpuTimeInfo = struct(
  { c: 'struct vcpu_time_info', header: 'xen.h', abi: 'any', size: 32 },
  {
    version: u32(0),
    tsc_timestamp: u64(8),
    system_time: u64(16),
    tsc_to_system_mul: u32(24),
    tsc_shift: s8(28),
    flags: u8(29),
  },
);

export const VcpuInfo64 = struct(
  { c: 'struct vcpu_info', header: 'xen.h', abi: 'x86_64', size: 64 },
  {
    evtchn_upcall_pending: u8(0),
    evtchn_upcall_mask: u8(1),
    evtchn_pending_sel: u64(8),
    arch: bytes(16, 16),
    time: bytes(32, 32),
  },
);

export const VcpuInfo32 = struct(
  { c: 'struct vcpu_info', header: 'xen.h', abi: 'x86_32', size: 64 },
  {
    evtchn_upcall_pending: u8(0),
    evtchn_upcall_mask: u8(1),
    evtchn_pending_sel: u32(4),
    arch: bytes(8, 24),
    time: bytes(32, 32),
  },
);

export const SharedInfo64 = struct(
  { c: 'struct shared_info', header: 'xen.h', abi: 'x86_64', size: 3136 },
  {
    vcpu_info: bytes(0, 2048),
    evtchn_pending: bytes(2048, 512),
    evtchn_mask: bytes(2560, 512),
    wc_version: u32(3072),
    wc_sec: u32(3076),
    wc_nsec: u32(3080),
    wc_sec_hi: u32(3084),
    arch: bytes(3088, 48),
  },
);

export const SharedInfo32 = struct(
  {
    c: 'struct shared_info',
    header: 'xen.h',
    abi: 'x86_32',
    size: 2344,
    members: { wc_sec_hi: 'arch.wc_sec_hi' },
  },
  {
    vcpu_info: bytes(0, 2048),
    evtchn_pending: bytes(2048, 128),
    evtchn_mask: bytes(2176, 128),
    wc_version: u32(2304),
    wc_sec: u32(2308),
    wc_nsec: u32(2312),
    arch: bytes(2316, 28),
    wc_sec_hi: u32(2340),
  },
);

export const MulticallEntry64 = struct(
  { c: 'struct multicall_entry', header: 'xen.h', abi: 'x86_64', size: 64 },
  { op: u64(0), result: u64(8), args: bytes(16, 48) },
);

export const MulticallEntry32 = struct(
  { c: 'struct multicall_entry', header: 'xen.h', abi: 'x86_32', size: 32 },
  { op: u32(0), result: u32(4), args: bytes(8, 24) },
);
