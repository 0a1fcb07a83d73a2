/** public/arch-x86/hvm/start_info.h: what a PVH kernel finds in EBX. */
import { struct, u32, u64 } from './struct.js';

const header = 'arch-x86/hvm/start_info.h';

export const HVM_START_MAGIC = 0x336ec578;

export const HvmStartInfo = struct(
  { c: 'struct hvm_start_info', header, abi: 'any', size: 56 },
  {
    magic: u32(0),
    version: u32(4),
    flags: u32(8),
    nr_modules: u32(12),
    modlist_paddr: u64(16),
    cmdline_paddr: u64(24),
    rsdp_paddr: u64(32),
    memmap_paddr: u64(40),
    memmap_entries: u32(48),
    reserved: u32(52),
  },
);
export const HvmModlistEntry = struct(
  { c: 'struct hvm_modlist_entry', header, abi: 'any', size: 32 },
  { paddr: u64(0), size: u64(8), cmdline_paddr: u64(16), reserved: u64(24) },
);
export const HvmMemmapTableEntry = struct(
  { c: 'struct hvm_memmap_table_entry', header, abi: 'any', size: 24 },
  { addr: u64(0), size: u64(8), type: u32(16), reserved: u32(20) },
);
