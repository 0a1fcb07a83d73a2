/**
 * What the toolstack puts into the store for an HVM guest before it starts (as libxl does): `/local/domain/<domid>` and
 * `/vm/<uuid>`. The home is dom0's and the guest may read it; a few directories belong to the guest.
 */
import type { StoreClient } from './client.js';
import { homeOf } from './path.js';

export interface GuestHome {
  readonly domid: number;
  readonly name: string;
  /** Lower case, with dashes. */
  readonly uuid: string;
  readonly memoryKib: number;
  /** What the guest is to use of it; default all. */
  readonly targetKib?: number;
  readonly vcpus: number;
  readonly store: SharedPage;
  /** PV console, if the guest has one. */
  readonly console?: SharedPage;
}

/** A page shared with the guest and the guest's event channel for it. */
export interface SharedPage {
  readonly port: number;
  readonly gfn: number;
}

/** Owned by the guest, so that it can write (and give rights away) there. */
const guestOwned = [
  'control/shutdown',
  'control/feature-poweroff',
  'control/feature-reboot',
  'control/feature-suspend',
  'control/feature-s3',
  'control/feature-s4',
  'control/sysrq',
  'device/suspend/event-channel',
  'data',
  'drivers',
  'feature',
  'attr',
  'error',
];

/** Replaces whatever was there. The guest's page and port must be introduced separately. */
export function createGuestHome(client: StoreClient, guest: GuestHome): void {
  const { domid, name, uuid, memoryKib, targetKib = memoryKib, vcpus } = guest;
  const home = homeOf(domid);
  const vm = `/vm/${uuid}`;
  const readOnly = ['n0', `r${domid}`];
  client.transaction((tx) => {
    for (const top of [home, vm]) {
      tx.remove(top);
      tx.mkdir(top);
      tx.setPermissions(top, readOnly);
    }
    const write = (path: string, value: string | number): void => tx.write(`${home}/${path}`, String(value));
    tx.write(`${vm}/uuid`, uuid);
    tx.write(`${vm}/name`, name);
    write('vm', vm);
    write('name', name);
    write('domid', domid);
    // What is made below the home inherits its permissions; these exist even when empty.
    for (const path of ['cpu', 'memory', 'device', 'control', 'hvmloader']) tx.mkdir(`${home}/${path}`);
    for (const path of guestOwned) {
      tx.mkdir(`${home}/${path}`);
      tx.setPermissions(`${home}/${path}`, [`n${domid}`]);
    }
    write('control/platform-feature-multiprocessor-suspend', 1);
    write('control/platform-feature-xs_reset_watches', 1);
    write('memory/static-max', memoryKib);
    write('memory/target', targetKib);
    write('memory/videoram', 0);
    for (let vcpu = 0; vcpu < vcpus; vcpu++) write(`cpu/${vcpu}/availability`, 'online');
    write('store/port', guest.store.port);
    write('store/ring-ref', guest.store.gfn);
    if (guest.console === undefined) return;
    write('console/port', guest.console.port);
    write('console/ring-ref', guest.console.gfn);
    write('console/type', 'xenconsoled');
    write('console/limit', 1_048_576);
    write('console/output', 'pty');
  });
}

/** Removes what `createGuestHome` made. */
export function removeGuestHome(client: StoreClient, { domid, uuid }: Pick<GuestHome, 'domid' | 'uuid'>): void {
  client.remove(`/vm/${uuid}`);
  client.remove(homeOf(domid));
}
