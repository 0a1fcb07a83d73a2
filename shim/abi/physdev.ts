/** public/physdev.h: PHYSDEVOP_* numbers. No argument is ever read: physical interrupts are not offered to guests. */
import { constants } from './constants.js';

export const PhysdevOp = constants(
  'physdev.h',
  {
    irq_status_query: 5,
    set_iopl: 6,
    set_iobitmap: 7,
    apic_read: 8,
    apic_write: 9,
    alloc_irq_vector: 10,
    free_irq_vector: 11,
    eoi: 12,
    map_pirq: 13,
    unmap_pirq: 14,
    manage_pci_add: 15,
    manage_pci_remove: 16,
    pirq_eoi_gmfn_v1: 17,
    restore_msi: 19,
    manage_pci_add_ext: 20,
    setup_gsi: 21,
    get_free_pirq: 23,
    pci_mmcfg_reserved: 24,
    pci_device_add: 25,
    pci_device_remove: 26,
    restore_msi_ext: 27,
    pirq_eoi_gmfn_v2: 28,
    dbgp_op: 29,
    prepare_msix: 30,
    release_msix: 31,
  },
  'PHYSDEVOP_',
);
