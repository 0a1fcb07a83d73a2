/** HYPERVISOR_physdev_op: physical interrupts routed over event channels, which guests are not offered. */
import { Errno } from '../abi/errno.js';
import { PhysdevOp } from '../abi/physdev.js';
import { HypercallNumber } from '../abi/xen.js';
import { hypercall, refuse } from './row.js';

const NO_PIRQS = 'XENFEAT_hvm_pirqs is not offered: emulated devices interrupt through the I/O APIC or MSI';
const NOT_FOR_HVM = 'for dom0 and PV guests only';

const PIRQ_OPS: ReadonlySet<string> = new Set([
  'irq_status_query',
  'eoi',
  'map_pirq',
  'unmap_pirq',
  'get_free_pirq',
] satisfies (keyof typeof PhysdevOp)[]);

export const physdevOp = hypercall({
  number: HypercallNumber.physdev_op,
  name: 'physdev_op',
  operations: Object.entries(PhysdevOp).map(([name, command]) =>
    refuse(command, name, Errno.ENOSYS, PIRQ_OPS.has(name) ? NO_PIRQS : NOT_FOR_HVM),
  ),
});
