/** The backends' ends of event channels: dom0's port numbers and the pairs of eventfds behind them. */
import { native } from '../../kvm/native.js';
import { Errno } from '../abi/errno.js';
import { XenError } from '../observe/errors.js';
import type { BackendPort, BackendPorts } from './backend-port.js';
import type { BackendEnd, EventChannels } from './event-channels.js';

class ConnectedPort implements BackendPort, BackendEnd {
  readonly kickFd = native.eventfd();
  readonly callFd = native.eventfd();
  #open = true;

  constructor(
    readonly port: number,
    readonly remotePort: number,
    readonly channels: EventChannels,
    readonly closed: () => void,
  ) {}

  kick(): void {
    if (this.#open) native.eventfdSignal(this.kickFd);
  }

  close(): void {
    if (!this.#open) return;
    this.channels.disconnect(this.remotePort, this);
    this.#open = false;
    native.closeFd(this.kickFd);
    native.closeFd(this.callFd);
    this.closed();
  }
}

export class DomainBackendPorts implements BackendPorts {
  readonly #domid: number;
  readonly #channels: EventChannels;
  /** Port numbers of ours in use. */
  readonly #taken = new Set<number>();

  constructor(domid: number, channels: EventChannels) {
    this.#domid = domid;
    this.#channels = channels;
  }

  bindInterdomain(domid: number, remotePort: number): BackendPort {
    if (domid !== this.#domid) throw new XenError(Errno.ESRCH, `there is no domain ${domid}`);
    const port = this.#take();
    const end = new ConnectedPort(port, remotePort, this.#channels, () => this.#taken.delete(port));
    if (this.#channels.connect(remotePort, end) < 0) {
      end.close();
      throw new XenError(Errno.EINVAL, `event channel ${remotePort} of domain ${domid} does not wait for a backend`);
    }
    return end;
  }

  /** A channel the toolstack sets up before the guest runs (console, xenstore): the guest's port is `remotePort`. */
  allocForGuest(): BackendPort {
    const remotePort = this.#channels.allocForBackend();
    if (remotePort === undefined) throw new Error('no event channel left before the guest even started');
    return this.bindInterdomain(this.#domid, remotePort);
  }

  /** Channels open at the moment. */
  get open(): number {
    return this.#taken.size;
  }

  #take(): number {
    let port = 1;
    while (this.#taken.has(port)) port++;
    this.#taken.add(port);
    return port;
  }
}
