/** HYPERVISOR_set_timer_op where KVM does not handle it by itself: the vCPU's singleshot timer by another name. */
import { HypercallNumber } from '../abi/xen.js';
import type { Call } from './call.js';
import { hypercall } from './row.js';

/** Deadlines further away than this come from an overflow in the guest; Xen rings soon rather than never. */
const FAR_FUTURE = 2n ** 50n;
const SOON = 100_000_000n;

export const setTimerOp = hypercall({
  number: HypercallNumber.set_timer_op,
  name: 'set_timer_op',
  handle(call) {
    const { timers, clock } = call.domain;
    const deadline = deadlineOf(call);
    if (deadline === 0n) {
      timers.stopSingleshot(call.vcpu);
      return 0;
    }
    const now = clock.now();
    const absurd = deadline < 0n || deadline - now > FAR_FUTURE;
    timers.setSingleshot(call.vcpu, absurd ? now + SOON : deadline);
    return 0;
  },
});

/** A signed 64-bit time; a 32-bit caller passes its halves, low first. */
function deadlineOf(call: Call): bigint {
  if (call.long) return BigInt.asIntN(64, call.pointer(0));
  return BigInt.asIntN(64, (BigInt(call.u32(1)) << 32n) | BigInt(call.u32(0)));
}
