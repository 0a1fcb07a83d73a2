/** HYPERVISOR_vm_assist: of its options an HVM guest has one, the update flag of its runstate areas. */
import { Errno } from '../abi/errno.js';
import { HypercallNumber, VmAssistCommand, VmAssistType } from '../abi/xen.js';
import { kvmResult } from '../domain/kvm-result.js';
import { hypercall } from './row.js';

export const vmAssist = hypercall({
  number: HypercallNumber.vm_assist,
  name: 'vm_assist',
  handle(call) {
    const command = call.u32(0);
    if (call.u32(1) !== VmAssistType.runstate_update_flag) return -Errno.EINVAL;
    if (command !== VmAssistCommand.enable && command !== VmAssistCommand.disable) return -Errno.ENOSYS;
    return kvmResult(() => call.domain.bridge.setRunstateUpdateFlag(command === VmAssistCommand.enable));
  },
});
