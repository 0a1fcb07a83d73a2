/** A whole vif without a machine: store, ports, driver, worker thread, a frontend, and a socket pair as the link. */
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createNetBackend } from '../../../backends/net/driver.js';
import type { NetBackend, NetBackendOptions } from '../../../backends/net/driver.js';
import type { Link, Offloads } from '../../../backends/net/link.js';
import { native } from '../../../kvm/native.js';
import type { Log } from '../../../shim/observe/log.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { backendPath, errorPath, frontendPath } from '../../../shim/xenbus/paths.js';
import { localClient } from '../../../shim/xenstore/local-client.js';
import { Store } from '../../../shim/xenstore/store.js';
import { FakePorts } from '../../helpers/fake-frontend-ports.js';
import { CTRL_REF, DOMID, FakeNetfront, queueRefs } from './fake-netfront.js';
import { WireEnd } from './rig.js';

const ID = { kind: 'vif', domid: DOMID, id: 0 };

/** A link that remembers what it was asked. */
export class StubLink implements Link {
  readonly description = 'stub';
  readonly fd: number;
  /** The far ends of the queues. */
  readonly wires: readonly WireEnd[];
  readonly carriers: boolean[] = [];
  readonly mtus: (number | undefined)[] = [];
  /** Counts asked for by `queues`. */
  readonly asked: number[] = [];
  readonly #fds: readonly number[];
  offloads: Offloads | undefined;
  closed = false;

  constructor(
    readonly maxQueues = 1,
    readonly plain = false,
  ) {
    const pairs = Array.from({ length: maxQueues }, () => native.channelPair());
    this.#fds = pairs.map(([linkFd]) => linkFd);
    this.fd = this.#fds[0]!;
    this.wires = pairs.map(([, wireFd]) => new WireEnd(wireFd));
  }

  get wire(): WireEnd {
    return this.wires[0]!;
  }

  queues(count: number): readonly number[] {
    this.asked.push(count);
    return this.#fds.slice(0, count);
  }

  setMtu(mtu: number | undefined): void {
    this.mtus.push(mtu);
  }

  get carrier(): boolean {
    return this.carriers.at(-1) ?? false;
  }

  setOffloads(offloads: Offloads): void {
    this.offloads = offloads;
  }

  setCarrier(on: boolean): void {
    this.carriers.push(on);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const fd of this.#fds) native.closeFd(fd);
  }
}

export interface FrontOptions {
  /** Keys of the frontend beside or instead of the usual ones; undefined leaves one out. */
  readonly keys?: Readonly<Record<string, string | undefined>>;
  /** One channel for each ring. */
  readonly split?: boolean;
  /** With a control ring. */
  readonly control?: boolean;
}

export interface VifLabOptions extends Partial<NetBackendOptions> {
  /** Of the frontend, and of the link. */
  readonly queues?: number;
  /** The link by plain system calls. */
  readonly plain?: boolean;
}

export class VifLab {
  readonly store = localClient(new Store());
  readonly ports = new FakePorts();
  readonly front: FakeNetfront;
  readonly link: StubLink;
  readonly messages: string[] = [];
  readonly backend: NetBackend;
  readonly backPath = backendPath(ID);
  readonly frontPath = frontendPath(ID);
  removed = 0;
  guestPorts: number[] = [];

  /** Event channel of the control ring. */
  controlPort = 0;

  constructor({ queues = 1, plain = false, ...options }: VifLabOptions = {}) {
    this.front = new FakeNetfront(queues);
    this.link = new StubLink(queues, plain);
    this.backend = createNetBackend({
      store: this.store,
      ports: this.ports,
      handles: this.front.handles,
      domid: DOMID,
      index: 0,
      link: this.link,
      log: this.#log,
      removed: () => this.removed++,
      ...options,
    });
    for (const queue of this.front.queues) {
      queue.kick = () => {
        for (const port of this.guestPorts) this.ports.send(port);
      };
    }
  }

  get wire(): WireEnd {
    return this.link.wire;
  }

  key(key: string): string | undefined {
    return this.store.read(`${this.backPath}/${key}`);
  }

  get error(): string | undefined {
    return this.store.read(errorPath(ID));
  }

  setState(state: number | string): void {
    this.store.write(`${this.frontPath}/state`, String(state));
  }

  /** Writes what a frontend writes and says Connected; fresh rings, fresh ports. */
  offer({ keys = {}, split = false, control = false }: FrontOptions = {}): void {
    const { queues } = this.front;
    for (const port of this.guestPorts) this.ports.free(port);
    if (this.controlPort > 0) this.ports.free(this.controlPort);
    this.controlPort = 0;
    this.guestPorts = [];
    const nodes: Record<string, string | undefined> = {
      'request-rx-copy': '1',
      'feature-rx-notify': '1',
      'feature-sg': '1',
      'feature-gso-tcpv4': '1',
      'feature-gso-tcpv6': '1',
      'feature-ipv6-csum-offload': '1',
      'ctrl-ring-ref': undefined,
      'event-channel-ctrl': undefined,
      ...(queues.length === 1 ? {} : { 'multi-queue-num-queues': String(queues.length) }),
    };
    queues.forEach((queue, i) => {
      queue.reset();
      const prefix = queues.length === 1 ? '' : `queue-${i}/`;
      const [tx, rx] = queueRefs(i);
      nodes[`${prefix}tx-ring-ref`] = String(tx);
      nodes[`${prefix}rx-ring-ref`] = String(rx);
      for (const channel of split ? ['-tx', '-rx'] : ['']) {
        const port = this.ports.allocate();
        this.guestPorts.push(port);
        nodes[`${prefix}event-channel${channel}`] = String(port);
      }
      for (const channel of split ? [''] : ['-tx', '-rx']) nodes[`${prefix}event-channel${channel}`] = undefined;
    });
    if (control) {
      const page = this.front.control;
      for (let i = 0; i < PAGE_SIZE; i++) page.setUint8(i, 0);
      this.controlPort = this.ports.allocate();
      nodes['ctrl-ring-ref'] = String(CTRL_REF);
      nodes['event-channel-ctrl'] = String(this.controlPort);
    }
    this.store.transaction((tx) => {
      for (const [key, value] of Object.entries({ ...nodes, ...keys })) {
        if (value === undefined) tx.remove(`${this.frontPath}/${key}`);
        else tx.write(`${this.frontPath}/${key}`, value);
      }
      tx.write(`${this.frontPath}/state`, String(XenbusState.Connected));
    });
  }

  async backendState(state: number): Promise<void> {
    await until(() => this.key('state') === String(state), () => `backend is ${this.key('state')}, not ${state}`);
  }

  async connect(options?: FrontOptions): Promise<void> {
    this.offer(options);
    await this.backendState(XenbusState.Connected);
  }

  async disconnect(): Promise<void> {
    this.setState(XenbusState.Closing);
    await this.backendState(XenbusState.Closing);
    this.setState(XenbusState.Closed);
    await this.backendState(XenbusState.Closed);
    this.setState(XenbusState.Initialising);
    await this.backendState(XenbusState.InitWait);
  }

  /** Grant handles and pins there are. */
  pins(): number {
    const { handles, pinnedRefs } = this.front.guest.grantTable.stats();
    return handles + pinnedRefs;
  }

  openFds(): number {
    return readdirSync('/proc/self/fd').length;
  }

  /** Ends everything; what was still pinned. */
  async close(): Promise<number> {
    await this.backend.close();
    const pins = this.pins();
    for (const wire of this.link.wires) {
      wire.close();
      native.closeFd(wire.fd);
    }
    this.front.close();
    return pins;
  }

  get #log(): Log {
    const note = (_fields: object, message: string): void => {
      this.messages.push(message);
    };
    const log: Log = { trace: note, debug: note, info: note, warn: note, error: note, child: () => log };
    return log;
  }
}

export async function until(condition: () => boolean, otherwise: () => string = () => 'it never happened'): Promise<void> {
  for (let tries = 0; tries < 3000; tries++) {
    if (condition()) return;
    await sleep(tries < 200 ? 1 : 5);
  }
  throw new Error(otherwise());
}
