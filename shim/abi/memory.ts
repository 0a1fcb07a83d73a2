/** public/memory.h: XENMEM_* commands and their arguments. */
import { constants } from './constants.js';
import { s32, struct, u16, u32, u64 } from './struct.js';

const header = 'memory.h';

export const MemoryOp = constants(
  header,
  {
    increase_reservation: 0,
    decrease_reservation: 1,
    maximum_ram_page: 2,
    current_reservation: 3,
    maximum_reservation: 4,
    machphys_mfn_list: 5,
    populate_physmap: 6,
    add_to_physmap: 7,
    memory_map: 9,
    machine_memory_map: 10,
    exchange: 11,
    machphys_mapping: 12,
    set_memory_map: 13,
    maximum_gpfn: 14,
    remove_from_physmap: 15,
    set_pod_target: 16,
    get_pod_target: 17,
    add_to_physmap_batch: 23,
    get_vnumainfo: 26,
    acquire_resource: 28,
  },
  'XENMEM_',
);

/** XENMEM_claim_pages: the header shows its number to tools only. */
export const MEMORY_OP_CLAIM_PAGES = 24;

/** MEMOP_EXTENT_SHIFT: the command is in bits 0..5 of the first argument, the extent to start from above. */
export const MEMOP_EXTENT_SHIFT = 6;

/** XENMAPSPACE_*. */
export const MapSpace = constants(
  header,
  {
    shared_info: 0,
    grant_table: 1,
    gmfn: 2,
    gmfn_range: 3,
    gmfn_foreign: 4,
    dev_mmio: 5,
  },
  'XENMAPSPACE_',
);

/** XENMAPIDX_grant_table_status: the index means a status frame of a version 2 table. */
export const MAPIDX_GRANT_TABLE_STATUS = 0x80000000;

export const MemoryReservation64 = struct(
  { c: 'struct xen_memory_reservation', header, abi: 'x86_64', size: 32 },
  { extent_start: u64(0), nr_extents: u64(8), extent_order: u32(16), mem_flags: u32(20), domid: u16(24) },
);
export const MemoryReservation32 = struct(
  { c: 'struct xen_memory_reservation', header, abi: 'x86_32', size: 20 },
  { extent_start: u32(0), nr_extents: u32(4), extent_order: u32(8), mem_flags: u32(12), domid: u16(16) },
);

export const MemoryDomain = struct(
  { c: 'struct xen_memory_domain', header, abi: 'any', size: 2 },
  { domid: u16(0) },
);

export const AddToPhysmap64 = struct(
  { c: 'struct xen_add_to_physmap', header, abi: 'x86_64', size: 24 },
  { domid: u16(0), size: u16(2), space: u32(4), idx: u64(8), gpfn: u64(16) },
);
export const AddToPhysmap32 = struct(
  { c: 'struct xen_add_to_physmap', header, abi: 'x86_32', size: 16 },
  { domid: u16(0), size: u16(2), space: u32(4), idx: u32(8), gpfn: u32(12) },
);

export const AddToPhysmapBatch64 = struct(
  {
    c: 'struct xen_add_to_physmap_batch',
    header,
    abi: 'x86_64',
    size: 32,
    members: { foreign_domid: 'u.foreign_domid' },
  },
  { domid: u16(0), space: u16(2), size: u16(4), foreign_domid: u16(6), idxs: u64(8), gpfns: u64(16), errs: u64(24) },
);
export const AddToPhysmapBatch32 = struct(
  {
    c: 'struct xen_add_to_physmap_batch',
    header,
    abi: 'x86_32',
    size: 20,
    members: { foreign_domid: 'u.foreign_domid' },
  },
  { domid: u16(0), space: u16(2), size: u16(4), foreign_domid: u16(6), idxs: u32(8), gpfns: u32(12), errs: u32(16) },
);
/** Element of `errs`: an int. */
export const BatchError = Object.freeze({ value: s32(0).at, SIZE: 4 });

export const RemoveFromPhysmap64 = struct(
  { c: 'struct xen_remove_from_physmap', header, abi: 'x86_64', size: 16 },
  { domid: u16(0), gpfn: u64(8) },
);
export const RemoveFromPhysmap32 = struct(
  { c: 'struct xen_remove_from_physmap', header, abi: 'x86_32', size: 8 },
  { domid: u16(0), gpfn: u32(4) },
);

export const MemoryMap64 = struct(
  { c: 'struct xen_memory_map', header, abi: 'x86_64', size: 16 },
  { nr_entries: u32(0), buffer: u64(8) },
);
export const MemoryMap32 = struct(
  { c: 'struct xen_memory_map', header, abi: 'x86_32', size: 8 },
  { nr_entries: u32(0), buffer: u32(4) },
);

/** An entry of XENMEM_memory_map's buffer: INT 15h E820 format, packed, so no C type of the headers matches it. */
export const E820Entry = Object.freeze({ addr: 0, size: 8, type: 16, SIZE: 20 });
export const E820_RAM = 1;
export const E820_RESERVED = 2;
