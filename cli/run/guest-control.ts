/** What a running guest's control socket answers. */
import { OperatorError } from '../../shim/observe/errors.js';
import type { StoreClient } from '../../shim/xenstore/client.js';
import { setVcpuAvailability } from '../../shim/xenstore/vcpu-availability.js';
import type { GuestStatus } from '../control/commands.js';
import type { ControlHandlers } from '../control/server.js';
import { blockControl } from './block-control.js';
import { DOMID } from './domid.js';
import type { Guest } from './guest.js';
import { memoryControl } from './memory-control.js';
import { netControl } from './net-control.js';
import { notUp } from './not-up.js';
import { pageControl } from './page-control.js';

const HOME = `/local/domain/${DOMID}`;

function pathOf(args: Readonly<Record<string, unknown>>): string {
  const { path } = args;
  const text = typeof path === 'string' ? path : '/';
  // As the tools have it, a path that does not start with a slash is below the guest's home.
  const absolute = text.startsWith('/') ? text : `${HOME}/${text}`;
  if (!/^\/$|^(\/[A-Za-z0-9@_-]+)+$/.test(absolute)) {
    throw new OperatorError('XENSTORE_PATH', `'${text}' is no xenstore path`, 'use letters, digits, - _ @ and /');
  }
  return absolute;
}

/** `path = "value"` lines of everything below a node. */
function tree(store: StoreClient, path: string): string[] {
  return (store.list(path) ?? []).flatMap((name) => {
    const child = path === '/' ? `/${name}` : `${path}/${name}`;
    return [`${child} = ${JSON.stringify(store.read(child) ?? '')}`, ...tree(store, child)];
  });
}

export function guestControl(
  guest: Guest,
  store: StoreClient,
  about: () => { name: string; memory: number; vcpus: number; qemuPid: number },
): ControlHandlers {
  const ask = (request: 'poweroff' | 'reboot'): string => {
    if (!guest.control(request)) notUp();
    return 'asked';
  };
  const missing = (path: string): OperatorError =>
    new OperatorError('XENSTORE_ENOENT', `there is no node ${path}`, 'see `xenshim xenstore NAME ls`');
  return {
    status: (): GuestStatus => ({ ...about(), domid: DOMID, pid: process.pid, state: guest.state }),
    shutdown: () => ask('poweroff'),
    reboot: () => ask('reboot'),
    ...blockControl(guest.block),
    ...memoryControl(guest, store, about().memory),
    ...netControl(guest.net),
    ...pageControl(guest),
    'vcpu-set': ({ count }) => {
      if (guest.state === 'starting') notUp();
      const { vcpus } = about();
      if (typeof count !== 'number' || count < 1 || count > vcpus) {
        throw new OperatorError('VCPUS', `the guest cannot use ${String(count)} vCPUs`,
          `use 1 to ${vcpus}, the number QEMU's -smp gives`);
      }
      setVcpuAvailability(store, DOMID, vcpus, count);
      return undefined;
    },
    'xenstore-ls': (args) => {
      const path = pathOf(args);
      if (path !== '/' && !store.exists(path)) throw missing(path);
      return tree(store, path).join('\n');
    },
    'xenstore-read': (args) => {
      const path = pathOf(args);
      const value = store.read(path);
      if (value === undefined) throw missing(path);
      return value;
    },
    'xenstore-write': (args) => {
      const { value } = args;
      store.write(pathOf(args), typeof value === 'string' ? value : '');
      return undefined;
    },
    'xenstore-rm': (args) => {
      const path = pathOf(args);
      if (path === '/' || !store.remove(path)) throw missing(path);
      return undefined;
    },
  };
}
