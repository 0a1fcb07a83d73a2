/** HYPERVISOR_hvm_op: parameters, upcall vectors, and small services for HVM guests. */
import { Errno } from '../abi/errno.js';
import {
  HvmDeviceModelOp,
  HvmEvtchnUpcallVector,
  HvmGetMemType,
  HvmGetTime,
  HvmMemType,
  HvmOp,
  HvmParamArgument,
} from '../abi/hvm-op.js';
import { HvmParam } from '../abi/hvm-params.js';
import { HypercallNumber } from '../abi/xen.js';
import { kvmResult } from '../domain/kvm-result.js';
import { OwnPage, SpecialGfn } from '../domain/own-pages.js';
import type { Call } from './call.js';
import { bare, hypercall, operation, refuse } from './row.js';

/** Vectors below are exceptions; the local APIC cannot deliver them. */
const FIRST_VECTOR = 16;

const DEVICE_MODEL = 'for a device model, which QEMU is without Xen’s help';

export const hvmOp = hypercall({
  number: HypercallNumber.hvm_op,
  name: 'hvm_op',
  operations: [
    operation(HvmOp.set_param, 'set_param', { layout: HvmParamArgument, direction: 'in' }, (call, view, at) =>
      setParam(call, view.getUint16(at.domid, true), view.getUint32(at.index, true), view.getBigUint64(at.value, true)),
    ),
    operation(HvmOp.get_param, 'get_param', { layout: HvmParamArgument, direction: 'inout' }, (call, view, at) => {
      const { params } = call.domain;
      const index = view.getUint32(at.index, true);
      const refused = call.self(view.getUint16(at.domid, true)) || params.mayGet(index);
      if (refused < 0) return refused;
      view.setBigUint64(at.value, params.get(index), true);
      return 0;
    }),
    refuse(HvmDeviceModelOp.set_pci_intx_level, 'set_pci_intx_level', Errno.ENOSYS, DEVICE_MODEL),
    refuse(HvmDeviceModelOp.set_isa_irq_level, 'set_isa_irq_level', Errno.ENOSYS, DEVICE_MODEL),
    refuse(HvmDeviceModelOp.set_pci_link_route, 'set_pci_link_route', Errno.ENOSYS, DEVICE_MODEL),
    bare(HvmOp.flush_tlbs, 'flush_tlbs', flushTlbs),
    refuse(
      HvmOp.pagetable_dying,
      'pagetable_dying',
      Errno.EINVAL,
      'a hint for shadow page tables; processors walk the guest’s tables themselves',
    ),
    operation(HvmOp.get_time, 'get_time', { layout: HvmGetTime, direction: 'out' }, (call, view, at) => {
      view.setBigUint64(at.now, call.domain.clock.now(), true);
      return 0;
    }),
    refuse(HvmOp.xentrace, 'xentrace', Errno.ENOSYS, 'there is no Xen trace buffer'),
    operation(HvmOp.get_mem_type, 'get_mem_type', { layout: HvmGetMemType, direction: 'inout' }, (call, view, at) => {
      const refused = call.self(view.getUint16(at.domid, true));
      if (refused < 0) return refused;
      const kind = call.domain.p2m.kind(Number(view.getBigUint64(at.pfn, true)));
      view.setUint16(at.mem_type, kind === 'hole' ? HvmMemType.mmio_dm : HvmMemType.ram_rw, true);
      return 0;
    }),
    operation(
      HvmOp.set_evtchn_upcall_vector,
      'set_evtchn_upcall_vector',
      { layout: HvmEvtchnUpcallVector, direction: 'in' },
      (call, view, at) => {
        const vector = view.getUint8(at.vector);
        const vcpu = view.getUint32(at.vcpu, true);
        if (vector < FIRST_VECTOR) return -Errno.EINVAL;
        if (!call.domain.vcpus.exists(vcpu)) return -Errno.ENOENT;
        return call.domain.vcpus.setVector(vcpu, vector);
      },
    ),
    // Nobody listens for it, which the guest cannot tell from somebody who does.
    bare(HvmOp.guest_request_vm_event, 'guest_request_vm_event', (call) =>
      call.pointer(1) === 0n ? 0 : -Errno.EINVAL,
    ),
    refuse(HvmOp.altp2m, 'altp2m', Errno.EOPNOTSUPP, 'a guest has one view of its memory'),
  ],
});

function setParam(call: Call, domid: number, index: number, value: bigint): number {
  const { domain } = call;
  const refused = call.self(domid) || domain.params.maySet(index);
  if (refused < 0) return refused;
  if (index === HvmParam.CALLBACK_IRQ) {
    // The one call every Xen-aware kernel makes: here its width is known for certain.
    domain.latch(call.long);
    const result = domain.callback.set(value);
    if (result < 0) return result;
  }
  domain.params.set(index, value);
  return 0;
}

/** Changing the memory slots makes the kernel drop all translations of all vCPUs; nothing else it offers does. */
function flushTlbs(call: Call): number {
  if (call.pointer(1) !== 0n) return -Errno.EINVAL;
  const { bridge } = call.domain;
  const placed = kvmResult(() => bridge.placeOwnPage(SpecialGfn.SPARE, OwnPage.SPARE), -Errno.ENOSYS);
  return placed < 0 ? placed : kvmResult(() => bridge.removeOwnPage(SpecialGfn.SPARE), -Errno.ENOSYS);
}
