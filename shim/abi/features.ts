/** public/features.h: XENFEAT_* bit numbers of submap 0. */
import { constants } from './constants.js';

export const Feature = constants(
  'features.h',
  {
    writable_page_tables: 0,
    writable_descriptor_tables: 1,
    auto_translated_physmap: 2,
    supervisor_mode_kernel: 3,
    pae_pgdir_above_4gb: 4,
    mmu_pt_update_preserve_ad: 5,
    gnttab_map_avail_bits: 7,
    hvm_callback_vector: 8,
    hvm_safe_pvclock: 9,
    hvm_pirqs: 10,
    dom0: 11,
    memory_op_vnode_supported: 13,
    not_direct_mapped: 16,
    direct_mapped: 17,
  },
  'XENFEAT_',
);

/** Added with Xen 4.18; older headers do not have them. */
export const PhysAreaFeature = Object.freeze({ runstate_phys_area: 18, vcpu_time_phys_area: 19 } as const);
