/** HYPERVISOR_vcpu_op: a vCPU's areas in guest memory, its timers, and bringing vCPUs up and down. */
import { Errno } from '../abi/errno.js';
import { ShutdownReason } from '../abi/sched.js';
import {
  VcpuOp,
  VcpuPhysAreaOp,
  VcpuRegisterRunstateMemoryArea,
  VcpuRegisterTimeMemoryArea,
  VcpuRegisterVcpuInfo,
  VcpuRunstateInfo32,
  VcpuRunstateInfo64,
  VcpuSetPeriodicTimer,
  VcpuSetSingleshotTimer32,
  VcpuSetSingleshotTimer64,
} from '../abi/vcpu.js';
import { HypercallNumber, VcpuTimeInfo } from '../abi/xen.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import type { Call } from './call.js';
import { bare, hypercall, operation, refuse, WAIT } from './row.js';

/** The vCPU the call is about. */
const target = (call: Call): number => call.u32(1);

/** Shortest period of the periodic timer, ns. */
const MIN_PERIOD = 1_000_000n;
/** Times beyond 2^63 ns are negative in Xen. */
const MAX_TIME = 2n ** 63n - 1n;

/** Guest-physical address of an area given by address; 0 = none; -EFAULT as a value of its own. */
function areaOf(call: Call, va: bigint, size: number): { gpa: number | undefined } | undefined {
  if (va === 0n) return { gpa: undefined };
  const gpa = call.space.physical(va, size);
  return gpa === undefined ? undefined : { gpa };
}

/** The same for an area given by guest-physical address, which may not cross a page (Xen's phys_area operations). */
function physicalArea(call: Call, gpa: bigint, size: number): { gpa: number | undefined } | number {
  if (gpa === MAX_GPA) return { gpa: undefined };
  const offset = Number(gpa & 0xfffn);
  if (offset > PAGE_SIZE - size) return -Errno.EINVAL;
  if (gpa >> 52n !== 0n || call.domain.p2m.locate(Number(gpa >> 12n)) === undefined) return -Errno.EINVAL;
  return { gpa: Number(gpa) };
}
const MAX_GPA = 2n ** 64n - 1n;

const runstateSize = (call: Call): number => (call.long ? VcpuRunstateInfo64 : VcpuRunstateInfo32).SIZE;

export const vcpuOp = hypercall({
  number: HypercallNumber.vcpu_op,
  name: 'vcpu_op',
  pointer: 2,
  check: (call) => (call.domain.vcpus.exists(target(call)) ? 0 : -Errno.ENOENT),
  operations: [
    refuse(VcpuOp.initialise, 'initialise', Errno.EOPNOTSUPP, 'vCPUs are started with INIT and SIPI, as on hardware'),
    bare(VcpuOp.up, 'up', (call) => {
      const vcpu = target(call);
      const { vcpus, bridge } = call.domain;
      if (vcpus.isDown(vcpu)) {
        vcpus.setDown(vcpu, false);
        bridge.complete(vcpu, 0);
      }
      // One that never ran has no registers to start with.
      return vcpus.isUp(vcpu) ? 0 : -Errno.EINVAL;
    }),
    bare(VcpuOp.down, 'down', (call) => {
      const { vcpus } = call.domain;
      // Nothing here can stop another vCPU; the kernels that use this call stop themselves.
      if (target(call) !== call.vcpu) return -Errno.EOPNOTSUPP;
      if (call.nested === undefined) return -Errno.EINVAL;
      vcpus.setDown(call.vcpu, true);
      if (!vcpus.anyUp()) call.domain.shutdown(ShutdownReason.poweroff);
      return WAIT;
    }),
    bare(VcpuOp.is_up, 'is_up', (call) => (call.domain.vcpus.isUp(target(call)) ? 1 : 0)),
    operation(
      VcpuOp.get_runstate_info,
      'get_runstate_info',
      { layouts: { x64: VcpuRunstateInfo64, x32: VcpuRunstateInfo32 }, direction: 'out' },
      (call, view, at) => {
        const { state, stateEntryTime, time } = call.domain.bridge.getRunstate(target(call));
        view.setInt32(at.state, state, true);
        view.setBigUint64(at.state_entry_time, stateEntryTime, true);
        time.forEach((ns, i) => view.setBigUint64(at.time + 8 * i, ns, true));
        return 0;
      },
    ),
    operation(
      VcpuOp.register_runstate_memory_area,
      'register_runstate_memory_area',
      { layout: VcpuRegisterRunstateMemoryArea, direction: 'in' },
      (call, view, at) => {
        const area = areaOf(call, call.handle(view, at.addr), runstateSize(call));
        return area === undefined ? -Errno.EFAULT : call.domain.vcpus.setRunstateArea(target(call), area.gpa);
      },
    ),
    operation(
      VcpuOp.set_periodic_timer,
      'set_periodic_timer',
      { layout: VcpuSetPeriodicTimer, direction: 'in' },
      (call, view, at) => {
        const period = view.getBigUint64(at.period_ns, true);
        if (period < MIN_PERIOD || period > MAX_TIME) return -Errno.EINVAL;
        call.domain.timers.setPeriodic(target(call), period);
        return 0;
      },
    ),
    bare(VcpuOp.stop_periodic_timer, 'stop_periodic_timer', (call) => {
      call.domain.timers.stopPeriodic(target(call));
      return 0;
    }),
    operation(
      VcpuOp.set_singleshot_timer,
      'set_singleshot_timer',
      { layouts: { x64: VcpuSetSingleshotTimer64, x32: VcpuSetSingleshotTimer32 }, direction: 'in' },
      (call, view, at) => {
        if (target(call) !== call.vcpu) return -Errno.EINVAL;
        // VCPU_SSHOTTMR_future is ignored: a time that has passed fires at once, with the flag or without.
        const deadline = view.getBigUint64(at.timeout_abs_ns, true);
        call.domain.timers.setSingleshot(call.vcpu, BigInt.asIntN(64, deadline));
        return 0;
      },
    ),
    bare(VcpuOp.stop_singleshot_timer, 'stop_singleshot_timer', (call) => {
      if (target(call) !== call.vcpu) return -Errno.EINVAL;
      call.domain.timers.stopSingleshot(call.vcpu);
      return 0;
    }),
    operation(
      VcpuOp.register_vcpu_info,
      'register_vcpu_info',
      { layout: VcpuRegisterVcpuInfo, direction: 'in' },
      (call, view, at) => {
        const gfn = Number(view.getBigUint64(at.mfn, true));
        return call.domain.vcpus.registerInfo(target(call), gfn, view.getUint32(at.offset, true));
      },
    ),
    refuse(VcpuOp.send_nmi, 'send_nmi', Errno.ENOSYS, 'an HVM guest sends NMIs through its local APIC'),
    refuse(VcpuOp.get_physid, 'get_physid', Errno.EINVAL, 'a vCPU is not tied to a processor'),
    operation(
      VcpuOp.register_vcpu_time_memory_area,
      'register_vcpu_time_memory_area',
      { layout: VcpuRegisterTimeMemoryArea, direction: 'in' },
      (call, view, at) => {
        const area = areaOf(call, call.handle(view, at.addr), VcpuTimeInfo.SIZE);
        return area === undefined ? -Errno.EFAULT : call.domain.vcpus.setTimeArea(target(call), area.gpa);
      },
    ),
    operation(
      VcpuPhysAreaOp.register_runstate_phys_area,
      'register_runstate_phys_area',
      { layout: VcpuRegisterRunstateMemoryArea, direction: 'in' },
      (call, view, at) => {
        const area = physicalArea(call, view.getBigUint64(at.addr, true), runstateSize(call));
        return typeof area === 'number' ? area : call.domain.vcpus.setRunstateArea(target(call), area.gpa);
      },
    ),
    operation(
      VcpuPhysAreaOp.register_vcpu_time_phys_area,
      'register_vcpu_time_phys_area',
      { layout: VcpuRegisterTimeMemoryArea, direction: 'in' },
      (call, view, at) => {
        const area = physicalArea(call, view.getBigUint64(at.addr, true), VcpuTimeInfo.SIZE);
        return typeof area === 'number' ? area : call.domain.vcpus.setTimeArea(target(call), area.gpa);
      },
    ),
  ],
});
