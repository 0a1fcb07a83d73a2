import { XsType } from '../../../../shim/abi/io/xs_wire.js';
import { Connection } from '../../../../shim/xenstore/connection.js';
import { Store } from '../../../../shim/xenstore/store.js';
import type { Quotas } from '../../../../shim/xenstore/quota.js';
import type { Toolstack } from '../../../../shim/xenstore/toolstack.js';
import { WriteRate } from '../../../../shim/xenstore/write-rate.js';
import { localClient } from '../../../../shim/xenstore/local-client.js';
import type { StoreClient } from '../../../../shim/xenstore/client.js';
import { silentLog } from '../../../../shim/observe/log.js';
import { FakeClock } from './fake-clock.js';

export interface Received {
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  readonly payload: string;
}

/** Cuts a byte stream into messages; what is incomplete is left out. */
export function parse(bytes: Buffer): Received[] {
  const found: Received[] = [];
  for (let at = 0; bytes.length - at >= 16; ) {
    const length = bytes.readUInt32LE(at + 12);
    if (bytes.length - at - 16 < length) break;
    found.push({
      type: bytes.readUInt32LE(at),
      reqId: bytes.readUInt32LE(at + 4),
      txId: bytes.readUInt32LE(at + 8),
      payload: bytes.toString('latin1', at + 16, at + 16 + length),
    });
    at += 16 + length;
  }
  return found;
}

/** A client of the wire protocol without a transport. Replies are text: the payload, or the error's name. */
export class WireClient {
  readonly connection: Connection;
  /** `path token` of each event taken from the outbox so far. */
  events: string[] = [];
  #reqId = 100;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Everything in the outbox. */
  take(): Received[] {
    const { outbox } = this.connection;
    const taken: Received[] = [];
    for (let head = outbox.head(); head !== undefined; head = outbox.head()) {
      taken.push(...parse(head));
      outbox.shift();
    }
    for (const { type, payload } of taken) {
      if (type === XsType.WATCH_EVENT) this.events.push(payload.slice(0, -1).replace('\0', ' '));
    }
    return taken;
  }

  raw(type: number, payload: string, txId = 0): Received {
    const reqId = ++this.#reqId;
    this.connection.handle({ type, reqId, txId, payload: Buffer.from(payload, 'latin1') });
    const reply = this.take().find((message) => message.type !== XsType.WATCH_EVENT);
    if (reply?.reqId !== reqId) throw new Error('no reply');
    return reply;
  }

  /** The reply's payload; an error's name without its NUL. */
  ask(type: number, payload: string, txId = 0): string {
    const reply = this.raw(type, payload, txId);
    return reply.type === XsType.ERROR ? reply.payload.slice(0, -1) : reply.payload;
  }

  read = (path: string, tx = 0): string => this.ask(XsType.READ, `${path}\0`, tx);
  write = (path: string, value: string, tx = 0): string => this.ask(XsType.WRITE, `${path}\0${value}`, tx);
  mkdir = (path: string, tx = 0): string => this.ask(XsType.MKDIR, `${path}\0`, tx);
  rm = (path: string, tx = 0): string => this.ask(XsType.RM, `${path}\0`, tx);
  list = (path: string, tx = 0): string[] | string => {
    const reply = this.raw(XsType.DIRECTORY, `${path}\0`, tx);
    return reply.type === XsType.ERROR ? reply.payload.slice(0, -1) : reply.payload.split('\0').slice(0, -1);
  };
  perms = (path: string, tx = 0): string => this.ask(XsType.GET_PERMS, `${path}\0`, tx);
  setPerms = (path: string, ...perms: string[]): string =>
    this.ask(XsType.SET_PERMS, [path, ...perms].map((s) => `${s}\0`).join(''));
  watch = (path: string, token: string): string => this.ask(XsType.WATCH, `${path}\0${token}\0`);
  unwatch = (path: string, token: string): string => this.ask(XsType.UNWATCH, `${path}\0${token}\0`);
  start = (): number => Number(this.ask(XsType.TRANSACTION_START, '\0').slice(0, -1));
  end = (tx: number, how = 'T'): string => this.ask(XsType.TRANSACTION_END, `${how}\0`, tx);

  /** Events since the last call. */
  seen(): string[] {
    this.take();
    const { events } = this;
    this.events = [];
    return events;
  }
}

export const OK = 'OK\0';

/** A store with dom0, guest 1 and guest 2, each with a home it owns. */
export class World {
  readonly clock = new FakeClock();
  readonly store: Store;
  readonly client: StoreClient;
  readonly rate: WriteRate;
  readonly dom0: WireClient;
  readonly guest: WireClient;
  readonly other: WireClient;

  constructor(quotas: Partial<Quotas> = {}) {
    this.store = new Store(quotas);
    this.client = localClient(this.store);
    this.rate = new WriteRate(this.store, this.clock);
    for (const domid of [1, 2]) {
      this.store.introduce(domid);
      this.client.mkdir(`/local/domain/${domid}`);
      this.client.setPermissions(`/local/domain/${domid}`, [`n${domid}`]);
    }
    this.dom0 = this.connect(0);
    this.guest = this.connect(1);
    this.other = this.connect(2);
  }

  connect(domid: number): WireClient {
    const caller = { domid, privileged: domid === 0, target: undefined };
    const { store, clock, rate } = this;
    return new WireClient(new Connection({ store, clock, rate, toolstack: noToolstack, log: silentLog }, caller, () => {}));
  }
}

const noToolstack: Toolstack = {
  introduce: () => 'EINVAL',
  release: () => 'ENOENT',
  resume: () => 'ENOENT',
  setTarget: () => 'ENOENT',
  isIntroduced: () => false,
};
