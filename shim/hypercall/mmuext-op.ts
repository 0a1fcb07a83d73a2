/** HYPERVISOR_mmuext_op: page tables of PV guests. */
import { Errno } from '../abi/errno.js';
import { HypercallNumber } from '../abi/xen.js';
import { hypercall } from './row.js';

export const mmuextOp = hypercall({
  number: HypercallNumber.mmuext_op,
  name: 'mmuext_op',
  refused: { errno: Errno.ENOSYS, reason: 'pins page tables of PV guests; an HVM guest has its own MMU' },
});
