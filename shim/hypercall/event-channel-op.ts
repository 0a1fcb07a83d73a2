/** HYPERVISOR_event_channel_op: the operations themselves are shim/event-channel's. */
import { Errno } from '../abi/errno.js';
import {
  EvtchnAllocUnbound,
  EvtchnBindInterdomain,
  EvtchnBindIpi,
  EvtchnBindVcpu,
  EvtchnBindVirq,
  EvtchnClose,
  EvtchnExpandArray,
  EvtchnFifo,
  EvtchnInitControl,
  EvtchnOp,
  EvtchnReset,
  EvtchnSend,
  EvtchnSetPriority,
  EvtchnStatus,
  EvtchnUnmask,
} from '../abi/event-channel.js';
import { HypercallNumber } from '../abi/xen.js';
import { hypercall, operation, refuse } from './row.js';

/** Stores the port of a successful binding where the caller looks for it. */
function bound(view: DataView, at: number, port: number): number {
  if (port < 0) return port;
  view.setUint32(at, port, true);
  return 0;
}

export const eventChannelOp = hypercall({
  number: HypercallNumber.event_channel_op,
  name: 'event_channel_op',
  operations: [
    operation(
      EvtchnOp.bind_interdomain,
      'bind_interdomain',
      { layout: EvtchnBindInterdomain, direction: 'inout' },
      (call, view, at) => {
        const remote = view.getUint16(at.remote_dom, true);
        const port = view.getUint32(at.remote_port, true);
        return bound(view, at.local_port, call.domain.channels.bindInterdomain(remote, port));
      },
    ),
    operation(EvtchnOp.bind_virq, 'bind_virq', { layout: EvtchnBindVirq, direction: 'inout' }, (call, view, at) => {
      const virq = view.getUint32(at.virq, true);
      return bound(view, at.port, call.domain.channels.bindVirq(virq, view.getUint32(at.vcpu, true)));
    }),
    refuse(EvtchnOp.bind_pirq, 'bind_pirq', Errno.EINVAL, 'no physical interrupt belongs to a guest'),
    operation(EvtchnOp.close, 'close', { layout: EvtchnClose, direction: 'in' }, (call, view, at) =>
      call.domain.channels.close(view.getUint32(at.port, true)),
    ),
    operation(EvtchnOp.send, 'send', { layout: EvtchnSend, direction: 'in' }, (call, view, at) =>
      call.domain.channels.send(view.getUint32(at.port, true)),
    ),
    operation(EvtchnOp.status, 'status', { layout: EvtchnStatus, direction: 'inout' }, (call, view, at) => {
      const status = call.domain.channels.status(view.getUint16(at.dom, true), view.getUint32(at.port, true));
      if (typeof status === 'number') return status;
      view.setUint32(at.status, status.status, true);
      view.setUint32(at.vcpu, status.vcpu, true);
      if (status.domid !== undefined) view.setUint16(at.interdomain_dom, status.domid, true);
      if (status.port !== undefined) view.setUint32(at.interdomain_port, status.port, true);
      if (status.virq !== undefined) view.setUint32(at.virq, status.virq, true);
      return 0;
    }),
    operation(
      EvtchnOp.alloc_unbound,
      'alloc_unbound',
      { layout: EvtchnAllocUnbound, direction: 'inout' },
      (call, view, at) => {
        const remote = view.getUint16(at.remote_dom, true);
        return bound(view, at.port, call.domain.channels.allocUnbound(view.getUint16(at.dom, true), remote));
      },
    ),
    operation(EvtchnOp.bind_ipi, 'bind_ipi', { layout: EvtchnBindIpi, direction: 'inout' }, (call, view, at) =>
      bound(view, at.port, call.domain.channels.bindIpi(view.getUint32(at.vcpu, true))),
    ),
    operation(EvtchnOp.bind_vcpu, 'bind_vcpu', { layout: EvtchnBindVcpu, direction: 'in' }, (call, view, at) =>
      call.domain.channels.bindVcpu(view.getUint32(at.port, true), view.getUint32(at.vcpu, true)),
    ),
    operation(EvtchnOp.unmask, 'unmask', { layout: EvtchnUnmask, direction: 'in' }, (call, view, at) =>
      call.domain.channels.unmask(view.getUint32(at.port, true)),
    ),
    operation(EvtchnOp.reset, 'reset', { layout: EvtchnReset, direction: 'in' }, (call, view, at) =>
      call.domain.channels.reset(view.getUint16(at.dom, true)),
    ),
    operation(
      EvtchnOp.init_control,
      'init_control',
      { layout: EvtchnInitControl, direction: 'inout' },
      (call, view, at) => {
        const { channels, p2m } = call.domain;
        view.setUint8(at.link_bits, EvtchnFifo.LINK_BITS);
        const page = p2m.locateForGood(Number(view.getBigUint64(at.control_gfn, true)));
        return channels.initControl(view.getUint32(at.vcpu, true), page, view.getUint32(at.offset, true));
      },
    ),
    operation(
      EvtchnOp.expand_array,
      'expand_array',
      { layout: EvtchnExpandArray, direction: 'in' },
      (call, view, at) =>
        call.domain.channels.expandArray(call.domain.p2m.locateForGood(Number(view.getBigUint64(at.array_gfn, true)))),
    ),
    operation(
      EvtchnOp.set_priority,
      'set_priority',
      { layout: EvtchnSetPriority, direction: 'in' },
      (call, view, at) =>
        call.domain.channels.setPriority(view.getUint32(at.port, true), view.getUint32(at.priority, true)),
    ),
  ],
});
