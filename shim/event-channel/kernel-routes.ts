/**
 * What the kernel does for event channels by itself: sends that end in an eventfd or in another port, eventfds that
 * raise a port, and the timer. A kernel that offers less (KVM_CAP_XEN_HVM says what) costs a detour through this
 * process, never a function.
 */
import { BridgeClosed, KvmXenCap, type Bridge } from '../../kvm/bridge.js';
import { native, type Watcher } from '../../kvm/native.js';
import { PORTS_2L_64 } from '../abi/event-channel.js';
import type { Log } from '../observe/log.js';
import type { BackendEnd } from './event-channels.js';
import type { Port } from './port-table.js';

export class KernelRoutes {
  readonly #bridge: Bridge;
  readonly #log: Log;
  readonly #watchers = new Map<BackendEnd, Watcher>();
  /** Ports whose sends the kernel carries out. */
  readonly #routed = new Set<number>();
  readonly #irqfds = new Set<number>();
  readonly #timers = new Set<number>();
  /** The guest's ABI is not the kernel's: only sends that end in an eventfd are left to it. */
  #foreign = false;
  /** Ports below this one have a number the kernel takes. */
  ports = PORTS_2L_64;

  constructor(bridge: Bridge, log: Log) {
    this.#bridge = bridge;
    this.#log = log;
  }

  /**
   * The guest uses another ABI than the 2-level one from now on, or no longer. The caller sets up anew what it has.
   * The kernel's SCHEDOP_poll looks at 2-level bits, too, so it has to leave that call to this process.
   */
  set foreign(on: boolean) {
    if (this.#foreign === on) return;
    this.#foreign = on;
    if (this.#has(KvmXenCap.EVTCHN_SEND)) this.#attempt('setKernelPoll', () => this.#bridge.setKernelPoll(!on));
  }

  /** Sends on `port` go to `target`, on the vCPU that one notifies now. */
  toPort(port: number, target: Port): void {
    if (this.#foreign) return;
    this.#route(port, () => this.#bridge.routeSend(port, { to: 'port', port: target.number, vcpu: target.vcpu }));
  }

  /** Ends the kernel's handling of sends. */
  remove(port: number): void {
    if (!this.#routed.delete(port)) return;
    this.#attempt('routeSend', () => this.#bridge.routeSend(port, undefined));
  }

  /** `port` is VIRQ_TIMER of `vcpu`; 0 = no longer bound. */
  timer(vcpu: number, port: number): void {
    if (!this.#has(KvmXenCap.EVTCHN_SEND) || (port !== 0 && this.#foreign)) return;
    if (port === 0 && !this.#timers.delete(vcpu)) return;
    if (this.#attempt('setTimer', () => this.#bridge.setTimer(vcpu, port, 0n)) && port !== 0) this.#timers.add(vcpu);
  }

  /** Both directions of a channel with a backend; `raise` is what a write to callFd means. */
  connect(port: Port, end: BackendEnd, raise: () => void): void {
    this.#route(port.number, () => this.#bridge.routeSend(port.number, { to: 'eventfd', fd: end.kickFd }));
    const bound =
      !this.#foreign &&
      this.#has(KvmXenCap.EVTCHN_2LEVEL) &&
      this.#attempt('bindIrqfd', () => this.#bridge.bindIrqfd(end.callFd, port.number, port.vcpu));
    if (bound) {
      this.#irqfds.add(end.callFd);
      return;
    }
    const watcher = native.watchReadable(end.callFd, () => {
      if (native.eventfdDrain(end.callFd) > 0) raise();
    });
    this.#watchers.set(end, watcher);
  }

  moveCall(callFd: number, vcpu: number): void {
    if (this.#irqfds.has(callFd)) this.#attempt('moveIrqfd', () => this.#bridge.moveIrqfd(callFd, vcpu));
  }

  disconnect(port: number, end: BackendEnd): void {
    this.remove(port);
    if (this.#irqfds.delete(end.callFd)) this.#attempt('unbindIrqfd', () => this.#bridge.unbindIrqfd(end.callFd));
    this.#watchers.get(end)?.close();
    this.#watchers.delete(end);
  }

  /** The kernel has dropped everything (a reset of the machine, or QEMU is gone): nothing to take back from it. */
  forget(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    this.#routed.clear();
    this.#irqfds.clear();
    this.#timers.clear();
  }

  #has(capability: number): boolean {
    return (this.#bridge.capabilities & capability) !== 0;
  }

  /** The kernel has one route per port and refuses to change its kind, so the old one goes first. */
  #route(port: number, set: () => void): void {
    if (!this.#has(KvmXenCap.EVTCHN_SEND) || port >= this.ports) return;
    this.remove(port);
    if (this.#attempt('routeSend', set)) this.#routed.add(port);
  }

  /** A refusal leaves the work to this process. */
  #attempt(what: string, call: () => void): boolean {
    try {
      call();
      return true;
    } catch (error) {
      // With the machine gone there is nothing left to take a shortcut in.
      if (error instanceof BridgeClosed) return false;
      this.#log.warn({ what, error: (error as Error).message }, 'the kernel refused an event-channel shortcut');
      return false;
    }
  }
}
