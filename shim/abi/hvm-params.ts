/** public/hvm/params.h: HVM_PARAM_*, 64-bit values a guest and its toolstack exchange. */
import { constants } from './constants.js';

export const HvmParam = constants(
  'hvm/params.h',
  {
    CALLBACK_IRQ: 0,
    STORE_PFN: 1,
    STORE_EVTCHN: 2,
    IOREQ_PFN: 5,
    BUFIOREQ_PFN: 6,
    VIRIDIAN: 9,
    TIMER_MODE: 10,
    HPET_ENABLED: 11,
    IDENT_PT: 12,
    ACPI_S_STATE: 14,
    VM86_TSS: 15,
    VPT_ALIGN: 16,
    CONSOLE_PFN: 17,
    CONSOLE_EVTCHN: 18,
    ACPI_IOPORTS_LOCATION: 19,
    PAGING_RING_PFN: 27,
    MONITOR_RING_PFN: 28,
    SHARING_RING_PFN: 29,
    TRIPLE_FAULT_REASON: 31,
    IOREQ_SERVER_PFN: 32,
    NR_IOREQ_SERVER_PAGES: 33,
    VM_GENERATION_ID_ADDR: 34,
    ALTP2M: 35,
    X87_FIP_WIDTH: 36,
    VM86_TSS_SIZED: 37,
    MCA_CAP: 38,
  },
  'HVM_PARAM_',
);

export const HVM_NR_PARAMS = 39;

/** Bits 63..56 of HVM_PARAM_CALLBACK_IRQ (HVM_PARAM_CALLBACK_TYPE_*). */
export const CallbackType = constants('hvm/params.h', { GSI: 0, PCI_INTX: 1, VECTOR: 2 }, 'HVM_PARAM_CALLBACK_TYPE_');
