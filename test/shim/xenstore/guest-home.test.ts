import test from 'ava';
import { createGuestHome, removeGuestHome, type GuestHome } from '../../../shim/xenstore/guest-home.js';
import { OK, World } from './helpers/wire-client.js';

const home: GuestHome = {
  domid: 1,
  name: 'guest',
  uuid: '0b1c2d3e-0000-4000-8000-000000000001',
  memoryKib: 1_048_576,
  vcpus: 2,
  store: { port: 1, gfn: 0xfeffc },
  console: { port: 2, gfn: 0xfeffe },
};

test('the home holds what a guest looks for', (t) => {
  const { client, guest } = new World();
  createGuestHome(client, home);
  const expected: Record<string, string> = {
    name: 'guest',
    domid: '1',
    vm: '/vm/0b1c2d3e-0000-4000-8000-000000000001',
    'memory/target': '1048576',
    'memory/static-max': '1048576',
    'store/port': '1',
    'store/ring-ref': '1044476',
    'console/port': '2',
    'console/ring-ref': '1044478',
    'console/type': 'xenconsoled',
    'cpu/0/availability': 'online',
    'cpu/1/availability': 'online',
    'control/platform-feature-xs_reset_watches': '1',
  };
  for (const [path, value] of Object.entries(expected)) t.is(guest.read(path), value, path);
  t.is(guest.read('cpu/2/availability'), 'ENOENT');
  t.is(guest.read(`${expected['vm']!}/uuid`), home.uuid);
});

test('the guest may write where libxl lets it, and nowhere else', (t) => {
  const { client, guest, other } = new World();
  createGuestHome(client, home);
  for (const path of [
    'control/shutdown', 'control/feature-suspend', 'control/feature-poweroff', 'control/sysrq', 'data/x', 'drivers/0',
    'feature/x', 'attr/os', 'error/device/vbd/51712/error', 'device/suspend/event-channel',
  ]) {
    t.is(guest.write(path, '1'), OK, path);
  }
  for (const path of [
    '', 'name', 'domid', 'vm', 'memory/target', 'store/port', 'console/ring-ref', 'cpu/0/availability', 'control/new',
    'device/vbd/51712/state', 'hvmloader/x', 'new',
  ]) {
    t.is(guest.write(`/local/domain/1/${path}`.replace(/\/$/, ''), '1'), 'EACCES', path);
  }
  t.is(other.read('/local/domain/1/name'), 'EACCES');
  t.is(guest.perms('control/shutdown'), 'n1\0');
  t.is(guest.perms('name'), 'n0\0r1\0');
});

test('a home made again starts over, and can be removed', (t) => {
  const { client, guest } = new World();
  createGuestHome(client, home);
  guest.write('data/old', 'x');
  createGuestHome(client, { ...home, name: 'renamed' });
  t.is(guest.read('data/old'), 'ENOENT');
  t.is(guest.read('name'), 'renamed');
  removeGuestHome(client, home);
  t.false(client.exists('/local/domain/1'));
  t.deepEqual(client.list('/vm'), []);
});
