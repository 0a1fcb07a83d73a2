/** Event channels as a backend uses them: a connected port is two eventfds, served by the kernel on both sides. */

export interface BackendPort {
  /** The backend's own (dom0) port number. */
  readonly port: number;
  /** The guest's port. */
  readonly remotePort: number;
  /** eventfd that becomes readable when the guest sends on its port. */
  readonly kickFd: number;
  /** eventfd whose write raises the event in the guest. */
  readonly callFd: number;
  /** Closes the channel and both descriptors. The guest's port becomes unbound. Idempotent. */
  close(): void;
}

export interface BackendPorts {
  /**
   * EVTCHNOP_bind_interdomain on behalf of dom0.
   * @throws XenError EINVAL when the guest's port is not unbound for domain 0
   */
  bindInterdomain(domid: number, remotePort: number): BackendPort;
}
