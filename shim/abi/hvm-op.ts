/** public/hvm/hvm_op.h: HVMOP_* and their arguments, the same in both widths. */
import { constants } from './constants.js';
import { struct, u16, u32, u64, u8 } from './struct.js';

const header = 'hvm/hvm_op.h';

export const HvmOp = constants(
  header,
  {
    set_param: 0,
    get_param: 1,
    flush_tlbs: 5,
    pagetable_dying: 9,
    get_time: 10,
    xentrace: 11,
    get_mem_type: 15,
    set_evtchn_upcall_vector: 23,
    guest_request_vm_event: 24,
    altp2m: 25,
  },
  'HVMOP_',
);

/** Of device models before Xen 4.9, which the current interface version hides. */
export const HvmDeviceModelOp = Object.freeze({
  set_pci_intx_level: 2,
  set_isa_irq_level: 3,
  set_pci_link_route: 4,
} as const);

/** hvmmem_type_t, as far as a guest can meet it. */
export const HvmMemType = constants(header, { ram_rw: 0, ram_ro: 1, mmio_dm: 2 }, 'HVMMEM_');

export const HvmParamArgument = struct(
  { c: 'struct xen_hvm_param', header, abi: 'any', size: 16 },
  { domid: u16(0), index: u32(4), value: u64(8) },
);
export const HvmPagetableDying = struct(
  { c: 'struct xen_hvm_pagetable_dying', header, abi: 'any', size: 16 },
  { domid: u16(0), gpa: u64(8) },
);
export const HvmGetTime = struct({ c: 'struct xen_hvm_get_time', header, abi: 'any', size: 8 }, { now: u64(0) });
export const HvmGetMemType = struct(
  { c: 'struct xen_hvm_get_mem_type', header, abi: 'any', size: 16 },
  { domid: u16(0), mem_type: u16(2), pfn: u64(8) },
);
export const HvmEvtchnUpcallVector = struct(
  { c: 'struct xen_hvm_evtchn_upcall_vector', header, abi: 'any', size: 8 },
  { vcpu: u32(0), vector: u8(4) },
);
