/** public/event_channel.h: EVTCHNOP_* and their arguments, the same in both widths. */
import { constants } from './constants.js';
import { bytes, struct, u16, u32, u64, u8 } from './struct.js';

const header = 'event_channel.h';

export const EvtchnOp = constants(
  header,
  {
    bind_interdomain: 0,
    bind_virq: 1,
    bind_pirq: 2,
    close: 3,
    send: 4,
    status: 5,
    alloc_unbound: 6,
    bind_ipi: 7,
    bind_vcpu: 8,
    unmask: 9,
    reset: 10,
    init_control: 11,
    expand_array: 12,
    set_priority: 13,
  },
  'EVTCHNOP_',
);

/** EVTCHNSTAT_*. */
export const EvtchnStatusKind = constants(
  header,
  {
    closed: 0,
    unbound: 1,
    interdomain: 2,
    pirq: 3,
    virq: 4,
    ipi: 5,
  },
  'EVTCHNSTAT_',
);

/** EVTCHN_2L_NR_CHANNELS of a guest with 64-bit words; with 32-bit words it is 1024. */
export const PORTS_2L_64 = 4096;
export const PORTS_2L_32 = 1024;

export const EvtchnAllocUnbound = struct(
  { c: 'struct evtchn_alloc_unbound', header, abi: 'any', size: 8 },
  { dom: u16(0), remote_dom: u16(2), port: u32(4) },
);
export const EvtchnBindInterdomain = struct(
  { c: 'struct evtchn_bind_interdomain', header, abi: 'any', size: 12 },
  { remote_dom: u16(0), remote_port: u32(4), local_port: u32(8) },
);
export const EvtchnBindVirq = struct(
  { c: 'struct evtchn_bind_virq', header, abi: 'any', size: 12 },
  { virq: u32(0), vcpu: u32(4), port: u32(8) },
);
export const EvtchnBindPirq = struct(
  { c: 'struct evtchn_bind_pirq', header, abi: 'any', size: 12 },
  { pirq: u32(0), flags: u32(4), port: u32(8) },
);
export const EvtchnBindIpi = struct(
  { c: 'struct evtchn_bind_ipi', header, abi: 'any', size: 8 },
  { vcpu: u32(0), port: u32(4) },
);
export const EvtchnClose = struct({ c: 'struct evtchn_close', header, abi: 'any', size: 4 }, { port: u32(0) });
export const EvtchnSend = struct({ c: 'struct evtchn_send', header, abi: 'any', size: 4 }, { port: u32(0) });
export const EvtchnStatus = struct(
  {
    c: 'struct evtchn_status',
    header,
    abi: 'any',
    size: 24,
    members: {
      unbound_dom: 'u.unbound.dom',
      interdomain_dom: 'u.interdomain.dom',
      interdomain_port: 'u.interdomain.port',
      pirq: 'u.pirq',
      virq: 'u.virq',
    },
  },
  {
    dom: u16(0),
    port: u32(4),
    status: u32(8),
    vcpu: u32(12),
    unbound_dom: u16(16),
    interdomain_dom: u16(16),
    interdomain_port: u32(20),
    pirq: u32(16),
    virq: u32(16),
  },
);
export const EvtchnBindVcpu = struct(
  { c: 'struct evtchn_bind_vcpu', header, abi: 'any', size: 8 },
  { port: u32(0), vcpu: u32(4) },
);
export const EvtchnUnmask = struct({ c: 'struct evtchn_unmask', header, abi: 'any', size: 4 }, { port: u32(0) });
export const EvtchnReset = struct({ c: 'struct evtchn_reset', header, abi: 'any', size: 2 }, { dom: u16(0) });
export const EvtchnInitControl = struct(
  { c: 'struct evtchn_init_control', header, abi: 'any', size: 24 },
  { control_gfn: u64(0), offset: u32(8), vcpu: u32(12), link_bits: u8(16) },
);
export const EvtchnExpandArray = struct(
  { c: 'struct evtchn_expand_array', header, abi: 'any', size: 8 },
  { array_gfn: u64(0) },
);
export const EvtchnSetPriority = struct(
  { c: 'struct evtchn_set_priority', header, abi: 'any', size: 8 },
  { port: u32(0), priority: u32(4) },
);

/** The FIFO ABI: bits of an event word; the low EVTCHN_FIFO_LINK_BITS are the next port in the queue. */
export const EvtchnFifo = constants(
  header,
  {
    PENDING: 31,
    MASKED: 30,
    LINKED: 29,
    BUSY: 28,
    LINK_BITS: 17,
    PRIORITY_MAX: 0,
    PRIORITY_DEFAULT: 7,
    PRIORITY_MIN: 15,
    MAX_QUEUES: 16,
  },
  'EVTCHN_FIFO_',
);
/** Ports of the FIFO ABI (EVTCHN_FIFO_NR_CHANNELS). */
export const PORTS_FIFO = 1 << EvtchnFifo.LINK_BITS;

/** A vCPU's control block: a bit per queue with something in it, and the queues' first ports. */
export const EvtchnFifoControlBlock = struct(
  { c: 'struct evtchn_fifo_control_block', header, abi: 'any', size: 72 },
  { ready: u32(0), head: bytes(8, 64) },
);
