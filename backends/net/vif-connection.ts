/** One connection to a frontend: its queues' places, event channels and ends of the link, from Connected to Closing. */
import type { BackendPort, BackendPorts } from '../../shim/event-channel/backend-port.js';
import type { Capture } from './capture.js';
import { readFrontend } from './features.js';
import type { FrontendNodes, QueueNodes } from './features.js';
import { handoverBytes } from './handover.js';
import type { Link } from './link.js';
import { NO_OFFLOADS } from './link.js';
import type { ControlConnect, QueuePlace, VifChannels, VifConnect, VifLive } from './messages.js';
import { DEFAULT_MTU } from './mtu.js';
import type { Rate } from './rate.js';
import type { VifDevice } from './vif-device.js';
import type { VifQueues } from './vif-queues.js';

export interface VifConnectionOptions {
  readonly device: VifDevice;
  readonly link: Link;
  readonly queues: VifQueues;
  readonly ports: BackendPorts;
  readonly domid: number;
  readonly rate: Rate;
  readonly live: VifLive;
  /** Undefined: as the link has it. */
  readonly mtu: number | undefined;
  readonly capture?: Capture;
}

export class VifConnection {
  readonly #options: VifConnectionOptions;
  readonly #frontend: FrontendNodes;
  readonly #channels: BackendPort[] = [];

  private constructor(options: VifConnectionOptions) {
    this.#options = options;
    this.#frontend = readFrontend(options.device, options.link.maxQueues ?? 1);
  }

  /** Reads what the frontend offers and attaches to it. @throws XenError for whatever cannot be right in it */
  static async open(options: VifConnectionOptions): Promise<VifConnection> {
    const connection = new VifConnection(options);
    try {
      await connection.#attach();
    } catch (error) {
      connection.#giveBack();
      throw error;
    }
    return connection;
  }

  /** For the log. */
  get about(): object {
    const { queues, scatterGather, notifies, offloads, control } = this.#frontend;
    return { ...offloads, scatterGather, notifies, queues: queues.length, control: control !== undefined };
  }

  /** A frontend without scatter-gather takes frames of one page, whatever is wished for. */
  setMtu(mtu: number | undefined): void {
    this.#options.link.setMtu?.(this.#frontend.scatterGather ? mtu : Math.min(mtu ?? DEFAULT_MTU, DEFAULT_MTU));
  }

  async close(): Promise<void> {
    try {
      await this.#options.queues.disconnect();
    } finally {
      this.#giveBack();
    }
  }

  #giveBack(): void {
    for (const channel of this.#channels.splice(0)) channel.close();
    const { link } = this.#options;
    link.setOffloads(NO_OFFLOADS);
    if ((link.maxQueues ?? 1) > 1) link.queues?.(1);
  }

  async #attach(): Promise<void> {
    const { link, queues, rate, live, capture, mtu } = this.#options;
    const { offloads, scatterGather, notifies } = this.#frontend;
    const channels = this.#frontend.queues.map((queue) => this.#bindQueue(queue));
    const control = this.#bindControl();
    const places = this.#places(channels);
    const linkFds = channels.length === 1 ? [link.fd] : link.queues!(channels.length);
    link.setOffloads(offloads);
    this.setMtu(mtu);
    const connects = this.#frontend.queues.map(
      ({ txRef, rxRef }, i): VifConnect => ({
        linkFd: linkFds[i]!, linkWaits: link.waits === true, linkPlain: link.plain === true, channels: channels[i]!,
        txRef, rxRef, offloads, scatterGather, notifies, rate, settings: live,
        ...(places === undefined ? {} : { place: places[i]! }),
        ...(capture === undefined ? {} : { capture: capture.place(i) }),
      }),
    );
    await queues.connect(connects, control);
  }

  /** Only a frontend with a control ring can want frames elsewhere than the link brings them. */
  #places(channels: readonly VifChannels[]): QueuePlace[] | undefined {
    const count = channels.length;
    if (count === 1) return undefined;
    const handover =
      this.#frontend.control === undefined
        ? {}
        : {
            handover: {
              memory: new SharedArrayBuffer(handoverBytes(count)),
              kicks: channels.map(({ rxKick }) => rxKick),
            },
          };
    return channels.map((_, index) => ({ index, count, ...handover }));
  }

  #bindQueue({ txPort, rxPort }: QueueNodes): VifChannels {
    const tx = this.#bind(txPort);
    const rx = rxPort === txPort ? tx : this.#bind(rxPort);
    return { txKick: tx.kickFd, txCall: tx.callFd, rxKick: rx.kickFd, rxCall: rx.callFd };
  }

  #bindControl(): ControlConnect | undefined {
    const { control, queues } = this.#frontend;
    if (control === undefined) return undefined;
    const channel = this.#bind(control.port);
    return { ref: control.ref, kick: channel.kickFd, call: channel.callFd, queues: queues.length };
  }

  #bind(remotePort: number): BackendPort {
    const port = this.#options.ports.bindInterdomain(this.#options.domid, remotePort);
    this.#channels.push(port);
    return port;
  }
}
