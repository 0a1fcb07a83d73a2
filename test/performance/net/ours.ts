/** Our backend, as in production (store, driver, worker thread), on the tap of the benchmark. */
import { setTimeout as sleep } from 'node:timers/promises';

import { createNetBackend } from '../../../backends/net/driver.js';
import type { NetBackend } from '../../../backends/net/driver.js';
import type { BackendPort } from '../../../shim/event-channel/backend-port.js';
import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import type { Log } from '../../../shim/observe/log.js';
import { backendPath, frontendPath } from '../../../shim/xenbus/paths.js';
import { localClient } from '../../../shim/xenstore/local-client.js';
import { Store } from '../../../shim/xenstore/store.js';
import type { Place } from './place.js';

const ID = { kind: 'vif', domid: 1, id: 0 };
/** As native/common.h has them. */
const TX_RING_REF = 8;
const RX_RING_REF = 9;

const quiet: Log = {
  trace: () => {},
  debug: () => {},
  info: () => {},
  warn: (fields, message) => {
    console.error(message, fields);
  },
  error: (fields, message) => {
    console.error(message, fields);
  },
  child: () => quiet,
};

/** The vif under test, and the xenstore half of its frontend. */
export class OurVif {
  readonly backend: NetBackend;
  readonly #store = localClient(new Store());

  constructor(place: Place) {
    const port: BackendPort = {
      port: 2, remotePort: 1, kickFd: place.kickFd, callFd: place.callFd, close: () => {},
    };
    this.backend = createNetBackend({
      store: this.#store,
      ports: { bindInterdomain: () => port },
      handles: place.handles,
      domid: 1,
      index: 0,
      link: place.tap,
      log: quiet,
    });
  }

  /** @param gso the frontend takes unsegmented frames */
  async connect(gso: boolean): Promise<void> {
    await this.#backendIs(XenbusState.InitWait);
    const keys = {
      'tx-ring-ref': TX_RING_REF,
      'rx-ring-ref': RX_RING_REF,
      'event-channel': 1,
      'request-rx-copy': 1,
      'feature-rx-notify': 1,
      'feature-sg': 1,
      'feature-gso-tcpv4': gso ? 1 : 0,
      'feature-gso-tcpv6': gso ? 1 : 0,
      'feature-ipv6-csum-offload': 1,
    };
    for (const [key, value] of Object.entries(keys)) this.#write(key, value);
    this.#write('state', XenbusState.Connected);
    await this.#backendIs(XenbusState.Connected);
  }

  async disconnect(): Promise<void> {
    this.#write('state', XenbusState.Closing);
    await this.#backendIs(XenbusState.Closing);
    this.#write('state', XenbusState.Closed);
    await this.#backendIs(XenbusState.Closed);
    this.#write('state', XenbusState.Initialising);
  }

  #write(key: string, value: number): void {
    this.#store.write(`${frontendPath(ID)}/${key}`, String(value));
  }

  async #backendIs(state: number): Promise<void> {
    for (let tries = 0; tries < 2000; tries++) {
      if (this.#store.read(`${backendPath(ID)}/state`) === String(state)) return;
      await sleep(2);
    }
    throw new Error(`the backend does not get to state ${state}`);
  }
}
