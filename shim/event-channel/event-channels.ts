/**
 * EVTCHNOP_* of a guest (public/event_channel.h), and the ends its backends hold. Methods return 0, a port number or a
 * negative errno; arguments come from the guest and may be anything.
 */
import { Errno } from '../abi/errno.js';
import { EvtchnFifo, EvtchnFifoControlBlock, EvtchnStatusKind, PORTS_2L_64, PORTS_FIFO } from '../abi/event-channel.js';
import { Domid, NR_VIRQS, Virq } from '../abi/xen.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import type { Delivery } from './delivery.js';
import { FifoEvents } from './fifo.js';
import type { KernelRoutes } from './kernel-routes.js';
import { PortTable, type Port, type PortBinding } from './port-table.js';
import type { Place } from './two-level.js';

/** Virtual interrupts each vCPU binds for itself. All others are global, and theirs is dom0 (VIRQ_ARGO: the domain). */
const PER_VCPU_VIRQS: ReadonlySet<number> = new Set([Virq.TIMER, Virq.DEBUG, Virq.XENOPROF, Virq.XENPMU]);

export interface PortStatus {
  /** EVTCHNSTAT_*. */
  readonly status: number;
  readonly vcpu: number;
  readonly domid?: number;
  readonly port?: number;
  readonly virq?: number;
}

/** The backend's end of a channel, as the port table's owner sees it. */
export interface BackendEnd {
  readonly port: number;
  /** eventfd the guest's sends go to. */
  readonly kickFd: number;
  /** The backend writes this eventfd to raise the guest's port. */
  readonly callFd: number;
  /** The guest sent and the kernel did not see it. */
  kick(): void;
}

export class EventChannels {
  readonly #delivery: Delivery;
  readonly #routes: KernelRoutes;
  readonly #vcpuExists: (vcpu: number) => boolean;
  readonly #domid: number;
  readonly #offersFifo: boolean;
  readonly #table: PortTable;
  /** Ports of the 2-level ABI in the guest's width. */
  #ports2l = PORTS_2L_64;
  readonly #virqs = new Map<string, Port>();
  readonly #backendEnds = new Map<number, BackendEnd>();

  constructor(options: {
    readonly domid: number;
    readonly maxPort: number;
    readonly delivery: Delivery;
    readonly routes: KernelRoutes;
    readonly vcpuExists: (vcpu: number) => boolean;
    /** The guest may change to the FIFO ABI. */
    readonly fifo?: boolean;
  }) {
    this.#domid = options.domid;
    this.#delivery = options.delivery;
    this.#routes = options.routes;
    this.#vcpuExists = options.vcpuExists;
    this.#offersFifo = options.fifo ?? false;
    this.#table = new PortTable(options.maxPort);
    this.#table.abiPorts = this.#ports2l;
  }

  /** A port that is not free. */
  port(number: number): Port | undefined {
    return this.#table.get(number);
  }

  get ports(): Iterable<Port> {
    return this.#table;
  }

  allocUnbound(dom: number, remoteDomid: number): number {
    const checked = this.#checkSelf(dom);
    if (checked < 0) return checked;
    const remote = remoteDomid === Domid.SELF ? this.#domid : remoteDomid;
    return this.#allocate(0, { state: 'unbound', remoteDomid: remote });
  }

  /** Of a guest there is nobody to bind to but itself: backends wait for the guest's ports, never the other way. */
  bindInterdomain(remoteDomid: number, remotePort: number): number {
    if (remoteDomid === Domid.BACKEND) return -Errno.EINVAL;
    if (remoteDomid !== Domid.SELF && remoteDomid !== this.#domid) return -Errno.ESRCH;
    const remote = this.#table.get(remotePort);
    if (remote?.binding.state !== 'unbound' || remote.binding.remoteDomid !== this.#domid) return -Errno.EINVAL;
    const number = this.#allocate(0, { state: 'loopback', peer: remotePort });
    if (number < 0) return number;
    const local = this.#table.get(number)!;
    this.#bind(remote, { state: 'loopback', peer: number });
    this.#routes.toPort(number, remote);
    this.#routes.toPort(remotePort, local);
    // An event sent before the binding must not be lost, so the new port starts pending.
    this.#delivery.raise(local);
    return number;
  }

  bindVirq(virq: number, vcpu: number): number {
    if (virq >= NR_VIRQS) return -Errno.EINVAL;
    const perVcpu = PER_VCPU_VIRQS.has(virq);
    if (!perVcpu && vcpu !== 0) return -Errno.EINVAL;
    if (!this.#vcpuExists(vcpu)) return -Errno.ENOENT;
    // A global interrupt goes to the one domain that handles it, and that is dom0.
    if (!perVcpu && virq !== Virq.ARGO) return -Errno.EBUSY;
    if (this.virqPort(virq, vcpu) !== undefined) return -Errno.EEXIST;
    const number = this.#allocate(vcpu, { state: 'virq', virq });
    if (number > 0) this.#virqs.set(virqKey(virq, vcpu), this.#table.get(number)!);
    if (number > 0 && virq === Virq.TIMER) this.#routes.timer(vcpu, number);
    return number;
  }

  bindIpi(vcpu: number): number {
    if (!this.#vcpuExists(vcpu)) return -Errno.ENOENT;
    const number = this.#allocate(vcpu, { state: 'ipi' });
    if (number > 0) this.#routes.toPort(number, this.#table.get(number)!);
    return number;
  }

  close(number: number): number {
    const port = this.#table.get(number);
    if (port === undefined) return -Errno.EINVAL;
    this.#release(port);
    return 0;
  }

  send(number: number): number {
    const port = this.#table.get(number);
    if (port === undefined) return -Errno.EINVAL;
    switch (port.binding.state) {
      case 'unbound':
        return 0;
      case 'ipi':
        this.#delivery.raise(port);
        return 0;
      case 'loopback':
        this.#delivery.raise(this.#table.get(port.binding.peer)!);
        return 0;
      case 'backend':
        this.#backendEnds.get(number)!.kick();
        return 0;
      case 'virq':
        return -Errno.EINVAL;
    }
  }

  /** EVTCHNOP_status; -errno or what the port is. A free port is `closed`; one never in range is -EINVAL. */
  status(dom: number, number: number): number | PortStatus {
    const checked = this.#checkSelf(dom);
    if (checked < 0) return checked;
    if (number > this.#table.max) return -Errno.EINVAL;
    const port = this.#table.get(number);
    if (port === undefined) return { status: EvtchnStatusKind.closed, vcpu: 0 };
    const { vcpu, binding } = port;
    switch (binding.state) {
      case 'unbound':
        return { status: EvtchnStatusKind.unbound, vcpu, domid: binding.remoteDomid };
      case 'backend':
        return {
          status: EvtchnStatusKind.interdomain,
          vcpu,
          domid: Domid.BACKEND,
          port: binding.backendPort,
        };
      case 'loopback':
        return { status: EvtchnStatusKind.interdomain, vcpu, domid: this.#domid, port: binding.peer };
      case 'virq':
        return { status: EvtchnStatusKind.virq, vcpu, virq: binding.virq };
      case 'ipi':
        return { status: EvtchnStatusKind.ipi, vcpu };
    }
  }

  bindVcpu(number: number, vcpu: number): number {
    if (!this.#vcpuExists(vcpu)) return -Errno.ENOENT;
    const port = this.#table.get(number);
    if (port === undefined) return -Errno.EINVAL;
    const { binding } = port;
    if (binding.state === 'ipi' || (binding.state === 'virq' && PER_VCPU_VIRQS.has(binding.virq))) return -Errno.EINVAL;
    if (port.vcpu === vcpu) return 0;
    port.vcpu = vcpu;
    if (binding.state === 'backend') this.#routes.moveCall(this.#backendEnds.get(number)!.callFd, vcpu);
    if (binding.state === 'loopback') this.#routes.toPort(binding.peer, port);
    return 0;
  }

  unmask(number: number): number {
    const port = this.#table.get(number);
    if (port === undefined) return -Errno.EINVAL;
    this.#delivery.unmask(port);
    return 0;
  }

  /**
   * EVTCHNOP_init_control: the control block of a vCPU. The first one changes the guest to the FIFO ABI.
   * @param place of the page; undefined = there is none
   */
  initControl(vcpu: number, place: Place | undefined, offset: number): number {
    if (!this.#offersFifo) return -Errno.ENOSYS;
    if (!this.#vcpuExists(vcpu)) return -Errno.ENOENT;
    if (offset > PAGE_SIZE - EvtchnFifoControlBlock.SIZE || offset % 8 !== 0) return -Errno.EINVAL;
    if (place === undefined || this.#delivery.fifo?.hasControl(vcpu) === true) return -Errno.EINVAL;
    if (this.#delivery.fifo === undefined) this.#useFifo();
    this.#delivery.fifo!.addControl(vcpu, { ...place, at: place.at + offset });
    return 0;
  }

  /** EVTCHNOP_expand_array: the next page of event words. */
  expandArray(place: Place | undefined): number {
    if (!this.#offersFifo) return -Errno.ENOSYS;
    const { fifo } = this.#delivery;
    if (fifo === undefined) return -Errno.EOPNOTSUPP;
    if (fifo.full) return -Errno.ENOSPC;
    if (place === undefined) return -Errno.EINVAL;
    for (const number of fifo.addPage(place)) {
      const port = this.#table.get(number);
      if (port !== undefined) this.#delivery.raise(port);
    }
    return 0;
  }

  /** EVTCHNOP_set_priority: of events from now on. */
  setPriority(number: number, priority: number): number {
    const { fifo } = this.#delivery;
    if (this.#table.get(number) === undefined) return -Errno.EINVAL;
    if (fifo === undefined) return -Errno.ENOSYS;
    if (priority > EvtchnFifo.PRIORITY_MIN) return -Errno.EINVAL;
    fifo.setPriority(number, priority);
    return 0;
  }

  /** What the kernel did by itself comes here, and what is pending stays so until its word is there. */
  #useFifo(): void {
    const delivery = this.#delivery;
    this.#routes.foreign = true;
    for (const port of this.#table) {
      const { number, vcpu, binding } = port;
      if (binding.state === 'backend') this.#reconnect(port);
      else if (binding.state === 'virq') {
        // Whatever the kernel's timer was armed for: an event too early makes the guest look, one too few would not.
        if (binding.virq !== Virq.TIMER) continue;
        this.#routes.timer(vcpu, 0);
        delivery.areas.bits.setPending(number);
      } else this.#routes.remove(number);
    }
    const { bits } = delivery.areas;
    const pending = [...this.#table].filter(({ number }) => number < bits.ports && bits.pending(number));
    delivery.fifo = new FifoEvents();
    this.#table.abiPorts = PORTS_FIFO;
    for (const port of pending) delivery.raise(port);
  }

  #useTwoLevel(): void {
    if (this.#delivery.fifo === undefined) return;
    this.#delivery.fifo = undefined;
    this.#routes.foreign = false;
    this.#table.abiPorts = this.#ports2l;
  }

  #reconnect(port: Port): void {
    const end = this.#backendEnds.get(port.number)!;
    this.#routes.disconnect(port.number, end);
    this.#routes.connect(port, end, () => this.#delivery.raise(port));
  }

  /** EVTCHNOP_reset, and what a machine reset does: closes every port; the ABI is 2-level again. */
  reset(dom: number): number {
    const checked = this.#checkSelf(dom);
    if (checked < 0) return checked;
    for (const port of [...this.#table]) if (this.#table.get(port.number) === port) this.#release(port);
    this.#useTwoLevel();
    return 0;
  }

  /** Raises a virtual interrupt on the vCPU that bound it; false if none did. */
  raiseVirq(virq: number, vcpu: number): boolean {
    const port = this.virqPort(virq, vcpu);
    if (port !== undefined) this.#delivery.raise(port);
    return port !== undefined;
  }

  virqPort(virq: number, vcpu: number): Port | undefined {
    return this.#virqs.get(virqKey(virq, vcpu));
  }

  /** The width of shared_info limits the ports. */
  latch(ports: number): void {
    this.#ports2l = ports;
    this.#routes.ports = ports;
    if (this.#delivery.fifo === undefined) this.#table.abiPorts = ports;
  }

  /**
   * After the areas of a vCPU moved: what is pending is raised anew, since the old selector bits may be lost. Channels
   * of backends are raised in any case while `lost` says the kernel could not deliver before: their eventfds were
   * written to no avail.
   */
  redeliver(vcpu: number, lost: boolean): void {
    this.#delivery.areas.upcall(vcpu)?.clear();
    this.#delivery.tellAgain(vcpu);
    if (this.#delivery.fifo !== undefined) return;
    for (const port of this.#table) {
      if (port.vcpu !== vcpu) continue;
      if (lost && port.binding.state === 'backend') this.#delivery.areas.bits.setPending(port.number);
      this.#delivery.redeliver(port);
    }
  }

  /** A port of the guest for the toolstack to hand out, unbound for dom0. Undefined when the ports are exhausted. */
  allocForBackend(): number | undefined {
    const number = this.#allocate(0, { state: 'unbound', remoteDomid: Domid.BACKEND });
    return number < 0 ? undefined : number;
  }

  /** Connects a backend's end to a port of the guest that waits for dom0; -EINVAL if it does not. */
  connect(number: number, end: BackendEnd): number {
    const port = this.#table.get(number);
    if (port?.binding.state !== 'unbound' || port.binding.remoteDomid !== Domid.BACKEND) return -Errno.EINVAL;
    this.#routes.connect(port, end, () => this.#delivery.raise(port));
    this.#bind(port, { state: 'backend', backendPort: end.port });
    this.#backendEnds.set(number, end);
    // Xen starts the binder's port pending, so that a send before the binding is seen.
    end.kick();
    return 0;
  }

  /** The backend closes its end: the guest's port waits for dom0 again. Idempotent. */
  disconnect(number: number, end: BackendEnd): void {
    const port = this.#table.get(number);
    if (port === undefined || this.#backendEnds.get(number) !== end) return;
    this.#unroute(port);
    this.#bind(port, { state: 'unbound', remoteDomid: Domid.BACKEND });
  }

  #checkSelf(dom: number): number {
    if (dom === Domid.SELF || dom === this.#domid) return 0;
    return dom === Domid.BACKEND ? -Errno.EPERM : -Errno.ESRCH;
  }

  #allocate(vcpu: number, binding: PortBinding): number {
    const { fifo } = this.#delivery;
    const port = this.#table.allocate(vcpu, binding, fifo && ((number) => fifo.busy(number)));
    if (port === undefined) return -Errno.ENOSPC;
    this.#delivery.forget(port.number);
    return port.number;
  }

  #bind(port: Port, binding: PortBinding): void {
    port.binding = binding;
  }

  /** Takes away what the kernel knows of a port, and the backend's hold on it. */
  #unroute(port: Port): void {
    const { number, binding } = port;
    if (binding.state === 'backend') {
      this.#routes.disconnect(number, this.#backendEnds.get(number)!);
      this.#backendEnds.delete(number);
    } else if (binding.state === 'ipi' || binding.state === 'loopback') {
      this.#routes.remove(number);
    } else if (binding.state === 'virq' && binding.virq === Virq.TIMER) {
      this.#routes.timer(port.vcpu, 0);
    }
  }

  #release(port: Port): void {
    this.#unroute(port);
    if (port.binding.state === 'loopback') {
      const peer = this.#table.get(port.binding.peer)!;
      this.#routes.remove(peer.number);
      this.#bind(peer, { state: 'unbound', remoteDomid: this.#domid });
    }
    if (port.binding.state === 'virq') this.#virqs.delete(virqKey(port.binding.virq, port.boundVcpu));
    this.#table.free(port.number);
    this.#delivery.forget(port.number);
  }
}

const virqKey = (virq: number, vcpu: number): string => `${virq}:${vcpu}`;
