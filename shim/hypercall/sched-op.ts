/** HYPERVISOR_sched_op: waiting for events, shutting down, watchdogs. */
import { Errno } from '../abi/errno.js';
import {
  SchedOp,
  SchedPoll32,
  SchedPoll64,
  SchedRemoteShutdown,
  SchedShutdown,
  SchedWatchdog,
  SHUTDOWN_MAX,
  ShutdownReason,
} from '../abi/sched.js';
import { Domid, HypercallNumber } from '../abi/xen.js';
import type { Call } from './call.js';
import { bare, hypercall, operation, refuse, WAIT, type Answer, type Fields } from './row.js';

/** Ports of one SCHEDOP_poll at most. */
const MAX_POLL_PORTS = 128;

export const schedOp = hypercall({
  number: HypercallNumber.sched_op,
  name: 'sched_op',
  operations: [
    bare(SchedOp.yield, 'yield', () => 0),
    // Blocking ends with any interrupt, of which this process sees few; returning early is always allowed.
    bare(SchedOp.block, 'block', () => 0),
    operation(SchedOp.shutdown, 'shutdown', { layout: SchedShutdown, direction: 'in' }, (call, view, at) =>
      shutdown(call, view.getUint32(at.reason, true)),
    ),
    operation(
      SchedOp.poll,
      'poll',
      { layouts: { x64: SchedPoll64, x32: SchedPoll32 }, direction: 'in' },
      poll,
    ),
    operation(
      SchedOp.remote_shutdown,
      'remote_shutdown',
      { layout: SchedRemoteShutdown, direction: 'in' },
      (call, view, at) => {
        const domid = view.getUint16(at.domain_id, true);
        // DOMID_SELF is looked up as any other number, and no domain has it.
        return domid === Domid.BACKEND || domid === call.domain.domid ? -Errno.EPERM : -Errno.ESRCH;
      },
    ),
    operation(SchedOp.shutdown_code, 'shutdown_code', { layout: SchedShutdown, direction: 'in' }, (call, view, at) => {
      const reason = view.getUint32(at.reason, true);
      if (!isReason(reason)) return -Errno.EINVAL;
      call.domain.shutdownCode = reason;
      return 0;
    }),
    operation(SchedOp.watchdog, 'watchdog', { layout: SchedWatchdog, direction: 'in' }, (call, view, at) =>
      call.domain.watchdogs.set(view.getUint32(at.id, true), view.getUint32(at.timeout, true)),
    ),
    refuse(SchedOp.pin_override, 'pin_override', Errno.EPERM, 'for the hardware domain only'),
  ],
});

const isReason = (reason: number): reason is ShutdownReason => reason <= SHUTDOWN_MAX;

/** Never returns to the guest, but for a suspend that nobody carries out and for a soft reset. */
function shutdown(call: Call, asked: number): Answer {
  if (!isReason(asked)) return -Errno.EINVAL;
  const { domain, vcpu } = call;
  // Whoever comes after the first one stays where it is, as a paused vCPU does.
  if (domain.shutdownReason !== undefined) return WAIT;
  const reason = domain.shutdownCode ?? asked;
  if (reason === ShutdownReason.soft_reset && !domain.softResets) {
    domain.shutdown(asked);
    return WAIT;
  }
  switch (reason) {
    case ShutdownReason.suspend:
      // Nobody is there to save the domain: 1 is what a resumed caller sees when the suspend was cancelled.
      domain.emit('suspendCancelled');
      return 1;
    case ShutdownReason.soft_reset:
      domain.softReset().then(
        (done) => {
          if (done) domain.bridge.complete(vcpu, 0);
        },
        (error: unknown) => {
          domain.log.error({ error: String(error) }, 'the soft reset failed');
          domain.shutdown(ShutdownReason.crash);
        },
      );
      return WAIT;
    default:
      domain.shutdown(asked);
      return WAIT;
  }
}

function poll(call: Call, view: DataView, at: Fields<'ports' | 'nr_ports' | 'timeout'>): Answer {
  const count = view.getUint32(at.nr_ports, true);
  const deadline = view.getBigUint64(at.timeout, true);
  if (count > MAX_POLL_PORTS) return -Errno.EINVAL;
  const bytes = new Uint8Array(count * 4);
  if (!call.space.read(call.handle(view, at.ports), bytes)) return -Errno.EFAULT;
  const list = new DataView(bytes.buffer);
  const ports = Array.from({ length: count }, (_, i) => list.getUint32(i * 4, true));
  const { poller, channels, clock } = call.domain;
  if (ports.some((port) => channels.port(port) === undefined)) return -Errno.EINVAL;
  // An entry of a multicall cannot be left waiting; waking up too early is always allowed.
  if (call.nested === undefined || poller.ready(call.vcpu, ports)) return 0;
  if (deadline !== 0n && deadline <= clock.now()) return 0;
  poller.wait(call.vcpu, ports, deadline);
  return WAIT;
}
