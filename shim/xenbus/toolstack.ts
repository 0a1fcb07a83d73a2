/** The toolstack's half of a device: its two directories, their permissions, and their end. */
import { XenbusState } from '../abi/io/xenbus.js';
import type { StoreClient, StoreWriter } from '../xenstore/client.js';
import { BACKEND_DOMID, backendPath, errorPath, frontendPath } from './paths.js';
import type { DeviceId } from './paths.js';

/** Keys beside the ones every device has. Values are text; order of creation is kept. */
export type Keys = Readonly<Record<string, string>>;

function populate(tx: StoreWriter, path: string, keys: Keys, owner: number, reader: number): void {
  const permissions = [`n${owner}`, `r${reader}`];
  tx.mkdir(path);
  tx.setPermissions(path, permissions);
  for (const [key, value] of Object.entries(keys)) {
    tx.write(`${path}/${key}`, value);
    tx.setPermissions(`${path}/${key}`, permissions);
  }
}

/**
 * Creates both ends of a device in one transaction, both Initialising (spec B2). Frontend directory: owned by the
 * guest, readable by the backend; backend directory the other way round. Leftovers of an earlier device go first.
 */
export function createDevice(store: StoreClient, device: DeviceId, backend: Keys, frontend: Keys): void {
  const back = backendPath(device);
  const front = frontendPath(device);
  const initialising = String(XenbusState.Initialising);
  store.transaction((tx) => {
    tx.remove(back);
    tx.remove(front);
    populate(
      tx,
      back,
      { frontend: front, 'frontend-id': String(device.domid), online: '1', state: initialising, ...backend },
      BACKEND_DOMID,
      device.domid,
    );
    populate(
      tx,
      front,
      { backend: back, 'backend-id': String(BACKEND_DOMID), state: initialising, ...frontend },
      device.domid,
      BACKEND_DOMID,
    );
  });
}

/** Asks the frontend to let go: the device leaves once both ends are Closed. No effect on a device that is not there. */
export function requestDetach(store: StoreClient, device: DeviceId): void {
  const back = backendPath(device);
  store.transaction((tx) => {
    const state = tx.read(`${back}/state`);
    if (state === undefined) return;
    tx.write(`${back}/online`, '0');
    if (state !== String(XenbusState.Closed)) tx.write(`${back}/state`, String(XenbusState.Closing));
  });
}

/** Removes what `createDevice` made, and the error node. */
export function removeDevice(store: StoreClient, device: DeviceId): void {
  store.transaction((tx) => {
    tx.remove(backendPath(device));
    tx.remove(frontendPath(device));
    tx.remove(errorPath(device).slice(0, -'/error'.length));
  });
}
