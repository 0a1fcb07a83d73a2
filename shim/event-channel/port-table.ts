/** A guest's event-channel ports: which exist and what each is bound to. Nothing is delivered here. */

/** What a port of the guest is bound to. Every state but `free` names the vCPU the port notifies. */
export type PortBinding =
  /** Waits for a domain to bind to it. */
  | { readonly state: 'unbound'; readonly remoteDomid: number }
  /** Connected to a port of a backend's (dom0) side. */
  | { readonly state: 'backend'; readonly backendPort: number }
  /** Connected to another port of the guest itself. */
  | { readonly state: 'loopback'; readonly peer: number }
  | { readonly state: 'virq'; readonly virq: number }
  | { readonly state: 'ipi' };

export interface Port {
  readonly number: number;
  /** The vCPU it was bound for. */
  readonly boundVcpu: number;
  /** The vCPU it notifies. */
  vcpu: number;
  binding: PortBinding;
}

export class PortTable {
  /** By port number; index 0 is never used. */
  readonly #ports: (Port | undefined)[] = [undefined];
  #lowestFree = 1;
  #limit: number;

  /** @param max the highest port number a guest may get (libxl's max_event_channels, 1023 unless configured) */
  constructor(readonly max: number) {
    this.#limit = max;
  }

  /** The ABI in use may allow fewer ports than the configuration: 32-bit guests have 1024 unless they use FIFO. */
  set abiPorts(ports: number) {
    this.#limit = Math.min(this.max, ports - 1);
  }

  get(number: number): Port | undefined {
    return this.#ports[number];
  }

  /**
   * Takes the lowest free port; undefined when all are taken.
   * @param busy says of a free port that the guest has not let go of it yet
   */
  allocate(vcpu: number, binding: PortBinding, busy?: (number: number) => boolean): Port | undefined {
    let number = this.#lowestFree;
    while (this.#ports[number] !== undefined) number++;
    this.#lowestFree = number;
    while (number <= this.#limit && (this.#ports[number] !== undefined || busy?.(number) === true)) number++;
    if (number > this.#limit) return undefined;
    const port: Port = { number, boundVcpu: vcpu, vcpu, binding };
    this.#ports[number] = port;
    if (number === this.#lowestFree) this.#lowestFree++;
    return port;
  }

  free(number: number): void {
    this.#ports[number] = undefined;
    this.#lowestFree = Math.min(this.#lowestFree, number);
  }

  *[Symbol.iterator](): Iterator<Port> {
    for (const port of this.#ports) if (port !== undefined) yield port;
  }
}
