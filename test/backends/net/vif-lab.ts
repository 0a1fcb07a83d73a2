/** A whole vif without a machine: store, ports, driver, worker thread, a frontend, and a socket pair as the link. */
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createNetBackend } from '../../../backends/net/driver.js';
import type { NetBackend, NetBackendOptions } from '../../../backends/net/driver.js';
import type { Link, Offloads } from '../../../backends/net/link.js';
import { native } from '../../../kvm/native.js';
import type { Log } from '../../../shim/observe/log.js';
import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { backendPath, errorPath, frontendPath } from '../../../shim/xenbus/paths.js';
import { localClient } from '../../../shim/xenstore/local-client.js';
import { Store } from '../../../shim/xenstore/store.js';
import { FakePorts } from '../../helpers/fake-frontend-ports.js';
import { DOMID, FakeNetfront, RX_REF, TX_REF } from './fake-netfront.js';
import { WireEnd } from './rig.js';

const ID = { kind: 'vif', domid: DOMID, id: 0 };

/** A link that remembers what it was asked. */
export class StubLink implements Link {
  readonly description = 'stub';
  readonly fd: number;
  readonly wire: WireEnd;
  readonly carriers: boolean[] = [];
  offloads: Offloads | undefined;
  closed = false;

  constructor() {
    const [linkFd, wireFd] = native.channelPair();
    this.fd = linkFd;
    this.wire = new WireEnd(wireFd);
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
    native.closeFd(this.fd);
  }
}

export interface FrontOptions {
  /** Keys of the frontend beside or instead of the usual ones; undefined leaves one out. */
  readonly keys?: Readonly<Record<string, string | undefined>>;
  /** One channel for each ring. */
  readonly split?: boolean;
}

export class VifLab {
  readonly store = localClient(new Store());
  readonly ports = new FakePorts();
  readonly front = new FakeNetfront();
  readonly link: StubLink;
  readonly messages: string[] = [];
  readonly backend: NetBackend;
  readonly backPath = backendPath(ID);
  readonly frontPath = frontendPath(ID);
  removed = 0;
  guestPorts: number[] = [];

  constructor(options: Partial<NetBackendOptions> = {}) {
    this.link = new StubLink();
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
    this.front.kick = () => {
      for (const port of this.guestPorts) this.ports.send(port);
    };
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
  offer({ keys = {}, split = false }: FrontOptions = {}): void {
    this.front.reset();
    for (const port of this.guestPorts) this.ports.free(port);
    this.guestPorts = Array.from({ length: split ? 2 : 1 }, () => this.ports.allocate());
    const [first, second] = this.guestPorts.map(String);
    const nodes: Record<string, string | undefined> = {
      'tx-ring-ref': String(TX_REF),
      'rx-ring-ref': String(RX_REF),
      ...(split ? { 'event-channel-tx': first, 'event-channel-rx': second } : { 'event-channel': first }),
      'request-rx-copy': '1',
      'feature-rx-notify': '1',
      'feature-sg': '1',
      'feature-gso-tcpv4': '1',
      'feature-gso-tcpv6': '1',
      'feature-ipv6-csum-offload': '1',
      ...keys,
    };
    this.store.transaction((tx) => {
      for (const key of ['event-channel', 'event-channel-tx', 'event-channel-rx']) tx.remove(`${this.frontPath}/${key}`);
      for (const [key, value] of Object.entries(nodes)) {
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
    this.wire.close();
    native.closeFd(this.wire.fd);
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
