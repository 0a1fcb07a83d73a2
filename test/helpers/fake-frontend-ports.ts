/** Event channels without a hypervisor: the guest's ports, and the two eventfds of each bound pair. */
import { native } from '../../kvm/native.js';
import type { Watcher } from '../../kvm/native.js';
import { Errno } from '../../shim/abi/errno.js';
import type { BackendPort, BackendPorts } from '../../shim/event-channel/backend-port.js';
import { XenError } from '../../shim/observe/errors.js';

export class FakePorts implements BackendPorts {
  readonly #unbound = new Set<number>();
  readonly #bound = new Map<number, { kickFd: number; callFd: number; watchers: Watcher[] }>();
  #next = 1;

  /** EVTCHNOP_alloc_unbound by the guest. */
  allocate(): number {
    const port = this.#next++;
    this.#unbound.add(port);
    return port;
  }

  /** The guest closes its port. */
  free(port: number): void {
    this.#unbound.delete(port);
  }

  /** Pairs that exist now. */
  get bound(): number {
    return this.#bound.size;
  }

  bindInterdomain(_domid: number, remotePort: number): BackendPort {
    if (!this.#unbound.delete(remotePort)) throw new XenError(Errno.EINVAL, `port ${remotePort} is not unbound`);
    const pair = { kickFd: native.eventfd(), callFd: native.eventfd(), watchers: [] as Watcher[] };
    this.#bound.set(remotePort, pair);
    return {
      port: 1000 + remotePort,
      remotePort,
      kickFd: pair.kickFd,
      callFd: pair.callFd,
      close: () => {
        if (this.#bound.get(remotePort) !== pair) return;
        this.#bound.delete(remotePort);
        this.#unbound.add(remotePort);
        // Before the descriptor's number belongs to somebody else.
        for (const watcher of pair.watchers) watcher.close();
        native.closeFd(pair.kickFd);
        native.closeFd(pair.callFd);
      },
    };
  }

  /** The two eventfds of a bound port, for a frontend that is another process. */
  fds(port: number): { kick: number; call: number } {
    const pair = this.#bound.get(port);
    if (pair === undefined) throw new Error(`port ${port} is not bound`);
    return { kick: pair.kickFd, call: pair.callFd };
  }

  /** EVTCHNOP_send by the guest. */
  send(port: number): void {
    const pair = this.#bound.get(port);
    if (pair !== undefined) native.eventfdSignal(pair.kickFd);
  }

  /** Calls back when the backend raises the event. */
  listen(port: number, raised: () => void): () => void {
    const pair = this.#bound.get(port);
    if (pair === undefined) throw new Error(`port ${port} is not bound`);
    const watcher = native.watchReadable(pair.callFd, () => {
      native.eventfdDrain(pair.callFd);
      raised();
    });
    pair.watchers.push(watcher);
    return () => {
      watcher.close();
    };
  }
}
