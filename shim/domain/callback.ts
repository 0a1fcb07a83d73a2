/**
 * HVM_PARAM_CALLBACK_IRQ: how a vCPU without an upcall vector of its own hears of events. The kernel injects vectors.
 * An interrupt line is level-triggered after vCPU 0's evtchn_upcall_pending; nobody reports when the guest clears that
 * byte or the kernel sets it, so it is watched, but only while a guest asks for a line.
 */
import type { Bridge } from '../../kvm/bridge.js';
import { CallbackType } from '../abi/hvm-params.js';
import type { EventAreas } from '../event-channel/areas.js';
import type { Log } from '../observe/log.js';
import { kvmResult } from './kvm-result.js';

const WATCH_MS = 1;
/** Lines of the virtual I/O APIC. */
const GSIS = 24;

export class CallbackIrq {
  readonly #bridge: Bridge;
  readonly #areas: EventAreas;
  readonly #log: Log;
  readonly #hasVector: () => boolean;
  #gsi: number | undefined;
  #level = false;
  #watch: NodeJS.Timeout | undefined;

  /** @param hasVector vCPU 0 has an upcall vector, so that no line is ever driven for it */
  constructor(bridge: Bridge, areas: EventAreas, hasVector: () => boolean, log: Log) {
    this.#bridge = bridge;
    this.#areas = areas;
    this.#hasVector = hasVector;
    this.#log = log;
  }

  /** @returns 0 or a negative errno */
  set(value: bigint): number {
    const type = Number(value >> 56n);
    const detail = Number(value & 0xffff_ffffn);
    this.#useLine(undefined);
    const result = kvmResult(() => this.#bridge.setCallbackVector(type === CallbackType.VECTOR ? detail & 0xff : 0));
    if (type === CallbackType.GSI && detail > 0 && detail < GSIS) this.#useLine(detail);
    else if (type === CallbackType.PCI_INTX) {
      this.#log.warn({ value: value.toString(16) }, 'the guest wants events on a PCI interrupt pin: not driven');
    }
    return result;
  }

  /** Brings the line to where it should be; also called after every event this process raises. */
  refresh(): void {
    if (this.#gsi === undefined) return;
    // A vector of vCPU 0 is for good: kernels that have one set GSI 1 as no more than a hint to the toolstack.
    if (this.#hasVector()) {
      this.#useLine(undefined);
      return;
    }
    const level = this.#areas.upcall(0)?.pending === true;
    if (level === this.#level) return;
    this.#level = level;
    this.#bridge.setGsi(this.#gsi, level);
  }

  stop(): void {
    clearInterval(this.#watch);
    this.#watch = undefined;
    this.#gsi = undefined;
    this.#level = false;
  }

  #useLine(gsi: number | undefined): void {
    if (this.#gsi !== undefined && this.#level) this.#bridge.setGsi(this.#gsi, false);
    this.stop();
    if (gsi === undefined) return;
    this.#gsi = gsi;
    this.#watch = setInterval(() => this.refresh(), WATCH_MS);
    this.refresh();
  }
}
