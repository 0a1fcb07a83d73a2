/** HYPERVISOR_memory_op: the guest's memory map, and its balloon. */
import { Errno } from '../abi/errno.js';
import { MEMOP_EXTENT_SHIFT, MEMORY_OP_CLAIM_PAGES, MemoryOp } from '../abi/memory.js';
import { HypercallNumber } from '../abi/xen.js';
import { memoryMap } from './memory-op/memory-map.js';
import { addToPhysmap, addToPhysmapBatch, removeFromPhysmap } from './memory-op/physmap.js';
import { currentReservation, maximumGpfn, maximumRamPage, maximumReservation } from './memory-op/extent.js';
import { decreaseReservation, increaseReservation, populatePhysmap } from './memory-op/reservation.js';
import { hypercall, refuse } from './row.js';

const PV_ONLY = 'machine frames and their tables are a PV guest’s business';
const PRIVILEGED = 'for the toolstack, not for a guest';

export const memoryOp = hypercall({
  number: HypercallNumber.memory_op,
  name: 'memory_op',
  commandMask: (1 << MEMOP_EXTENT_SHIFT) - 1,
  operations: [
    increaseReservation,
    decreaseReservation,
    maximumRamPage,
    currentReservation,
    maximumReservation,
    refuse(MemoryOp.machphys_mfn_list, 'machphys_mfn_list', Errno.ENOSYS, PV_ONLY),
    populatePhysmap,
    addToPhysmap,
    memoryMap,
    refuse(MemoryOp.machine_memory_map, 'machine_memory_map', Errno.EPERM, PRIVILEGED),
    refuse(MemoryOp.exchange, 'exchange', Errno.ENOSYS, PV_ONLY),
    refuse(MemoryOp.machphys_mapping, 'machphys_mapping', Errno.ENOSYS, PV_ONLY),
    refuse(MemoryOp.set_memory_map, 'set_memory_map', Errno.EPERM, PRIVILEGED),
    maximumGpfn,
    removeFromPhysmap,
    refuse(MemoryOp.set_pod_target, 'set_pod_target', Errno.EPERM, PRIVILEGED),
    refuse(MemoryOp.get_pod_target, 'get_pod_target', Errno.EPERM, PRIVILEGED),
    addToPhysmapBatch,
    refuse(MEMORY_OP_CLAIM_PAGES, 'claim_pages', Errno.EPERM, PRIVILEGED),
    refuse(MemoryOp.get_vnumainfo, 'get_vnumainfo', Errno.EOPNOTSUPP, 'ACPI tells of NUMA, Xen does not'),
    refuse(MemoryOp.acquire_resource, 'acquire_resource', Errno.EPERM, PRIVILEGED),
  ],
});
