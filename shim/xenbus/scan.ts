/** Finding devices that are in the store already, and those that come later (a backend may start after its guest). */
import type { StoreClient } from '../xenstore/client.js';
import { parseDecimal } from './parse.js';
import { BACKEND_DOMID, backendPath, domainPath } from './paths.js';
import type { DeviceId } from './paths.js';

const MAX_DOMID = 0x7fef;
const MAX_ID = 0x7fffffff;

/** Every device of a kind whose backend directory has a state. */
export function scanDevices(store: StoreClient, kind: string): DeviceId[] {
  const root = `${domainPath(BACKEND_DOMID)}/backend/${kind}`;
  const found: DeviceId[] = [];
  for (const domain of store.list(root) ?? []) {
    const domid = parseDecimal(domain, MAX_DOMID);
    if (domid === undefined) continue;
    for (const name of store.list(`${root}/${domain}`) ?? []) {
      const id = parseDecimal(name, MAX_ID);
      if (id === undefined) continue;
      const device = { kind, domid, id };
      if (store.exists(`${backendPath(device)}/state`)) found.push(device);
    }
  }
  return found;
}

/** Calls back once for each device of a kind, those already there included. Returns the function that stops it. */
export function watchDevices(store: StoreClient, kind: string, appeared: (device: DeviceId) => void): () => void {
  const known = new Set<string>();
  return store.watch(`${domainPath(BACKEND_DOMID)}/backend/${kind}`, () => {
    const present = scanDevices(store, kind);
    const paths = new Set(present.map(backendPath));
    for (const path of known) if (!paths.has(path)) known.delete(path);
    for (const device of present) {
      const path = backendPath(device);
      if (known.has(path)) continue;
      known.add(path);
      appeared(device);
    }
  });
}
