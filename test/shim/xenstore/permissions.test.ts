import test from 'ava';
import { XsType } from '../../../shim/abi/io/xs_wire.js';
import { OK, World } from './helpers/wire-client.js';

test('E45: a write outside the own tree is EACCES, whether or not the node exists', (t) => {
  const { guest, client } = new World();
  client.write('/local/domain/2/secret', 'x');
  for (const path of ['/local/domain/2/secret', '/local/domain/2/none', '/none', '/tool', '/local/domain/0/x']) {
    t.is(guest.write(path, 'y'), 'EACCES', path);
    t.is(guest.read(path), 'EACCES', path);
    t.is(guest.rm(path), 'EACCES', path);
    t.is(guest.mkdir(path), 'EACCES', path);
    t.is(guest.list(path), 'EACCES', path);
    t.is(guest.perms(path), 'EACCES', path);
  }
  t.is(client.read('/local/domain/2/secret'), 'x');
});

test('E45: a guest that changes the owner gets EPERM, and one that does not own the node EACCES', (t) => {
  const { guest, client } = new World();
  guest.write('mine', 'x');
  t.is(guest.setPerms('mine', 'n2'), 'EPERM');
  t.is(guest.setPerms('mine', 'n0', 'b1'), 'EPERM');
  client.write('/local/domain/1/theirs', 'x');
  client.setPermissions('/local/domain/1/theirs', ['n0', 'b1']);
  t.is(guest.setPerms('theirs', 'n0', 'b1', 'b2'), 'EACCES');
  t.is(guest.perms('mine'), 'n1\0');
  t.is(guest.perms('theirs'), 'n0\0b1\0');
});

test('E50: a guest cannot write the backend directory, nor the state of another guest, nor read-only nodes of its own', (t) => {
  const { guest, client } = new World();
  client.write('/local/domain/0/backend/vbd/1/51712/state', '2');
  client.setPermissions('/local/domain/0/backend/vbd/1/51712', ['n0', 'r1']);
  client.setPermissions('/local/domain/0/backend/vbd/1/51712/state', ['n0', 'r1']);
  client.write('/local/domain/2/device/vbd/51712/state', '1');
  client.write('/local/domain/1/name', 'guest');
  client.setPermissions('/local/domain/1/name', ['n0', 'r1']);
  t.is(guest.read('/local/domain/0/backend/vbd/1/51712/state'), '2');
  t.is(guest.write('/local/domain/0/backend/vbd/1/51712/state', '4'), 'EACCES');
  t.is(guest.write('/local/domain/0/backend/vbd/1/51712/params', '/etc/shadow'), 'EACCES');
  t.is(guest.rm('/local/domain/0/backend/vbd/1/51712'), 'EACCES');
  t.is(guest.write('/local/domain/2/device/vbd/51712/state', '4'), 'EACCES');
  t.is(guest.write('name', 'other'), 'EACCES');
});

test('E50: a refusal inside a transaction is the same and leaves nothing behind', (t) => {
  const { guest, client } = new World();
  client.write('/local/domain/0/backend/vbd/1/51712/state', '2');
  const tx = guest.start();
  t.is(guest.write('/local/domain/0/backend/vbd/1/51712/state', '4', tx), 'EACCES');
  t.is(guest.end(tx), OK);
  t.is(client.read('/local/domain/0/backend/vbd/1/51712/state'), '2');
});

test('the first entry gives the default, a later one overrides it for its domain', (t) => {
  const { guest, other, dom0 } = new World();
  guest.write('a', 'x');
  const path = '/local/domain/1/a';
  const access = () => [other.read(path) === 'x' ? 'r' : '-', other.write(path, 'x') === OK ? 'w' : '-'].join('');
  for (const [perms, expected] of [
    [['n1'], '--'],
    [['r1'], 'r-'],
    [['w1'], '-w'],
    [['b1'], 'rw'],
    [['b1', 'n2'], '--'],
    [['n1', 'r2'], 'r-'],
    [['n1', 'w2', 'b2'], '-w'],
  ] as const) {
    t.is(dom0.setPerms(path, ...perms), OK);
    t.is(access(), expected, perms.join(' '));
  }
});

test('ENOENT is told only to those who may use the nearest existing ancestor', (t) => {
  const { guest, other, client } = new World();
  t.is(guest.read('none/of/these'), 'ENOENT');
  t.is(other.read('/local/domain/1/none'), 'EACCES');
  client.setPermissions('/local/domain/1', ['r1']);
  t.is(other.read('/local/domain/1/none'), 'ENOENT');
  t.is(other.rm('/local/domain/1/none'), 'EACCES');
});

test('GET_PERMS returns the entries as set', (t) => {
  const { guest } = new World();
  guest.write('a', '');
  t.is(guest.setPerms('a', 'r1', 'b2', 'w0'), OK);
  t.is(guest.perms('a'), 'r1\0b2\0w0\0');
});

test('SET_PERMS: malformed EINVAL, more than five entries ENOSPC, an unknown owner ENOENT, other unknowns ignored', (t) => {
  const { guest, dom0 } = new World();
  guest.write('a', '');
  for (const bad of ['x1', '1', 'r', 'r1x', 'r-1', 'r 1', 'r99999', 'R1', '']) t.is(guest.setPerms('a', bad), 'EINVAL', bad);
  t.is(guest.setPerms('a'), 'EINVAL');
  t.is(guest.ask(XsType.SET_PERMS, ''), 'EINVAL');
  t.is(guest.setPerms('a', 'n1', 'r2', 'r2', 'r2', 'r2'), OK);
  t.is(guest.setPerms('a', 'n1', 'r2', 'r2', 'r2', 'r2', 'r2'), 'ENOSPC');
  t.is(guest.setPerms('a', 'n77'), 'ENOENT');
  t.is(guest.setPerms('a', 'n1', 'b77'), OK);
  t.is(guest.perms('a'), 'n1\0');
  t.is(dom0.setPerms('/local/domain/1/a', 'n2'), OK);
});

test('giving a node to another domain moves its quota too', (t) => {
  const { guest, dom0, store } = new World();
  guest.write('a', 'x');
  const [one, two] = [store.domain(1).nodes, store.domain(2).nodes];
  dom0.setPerms('/local/domain/1/a', 'n2');
  t.deepEqual([store.domain(1).nodes, store.domain(2).nodes], [one - 1, two + 1]);
});

test('privileged requests of a guest are EACCES', (t) => {
  const { guest } = new World();
  for (const name of [
    'CONTROL', 'INTRODUCE', 'RELEASE', 'IS_DOMAIN_INTRODUCED', 'RESUME', 'SET_TARGET', 'GET_QUOTA', 'SET_QUOTA',
  ] as const) {
    t.is(guest.ask(XsType[name], '1\x001\x001\0'), 'EACCES', name);
  }
});

test('a released domain leaves neither nodes nor permissions for a later one of the same id', (t) => {
  const world = new World();
  const { guest, client, store } = world;
  guest.write('data/x', 'x');
  client.write('/shared', 'x');
  client.setPermissions('/shared', ['n0', 'b1', 'r2']);
  client.write('/local/domain/2/inbox', '');
  client.setPermissions('/local/domain/2/inbox', ['n1']);
  guest.connection.reset();
  store.release(1);
  t.false(client.exists('/local/domain/1'));
  t.false(client.exists('/local/domain/2/inbox'));
  t.deepEqual(client.list('/local/domain/2'), []);
  t.is(world.dom0.perms('/shared'), 'n0\0r2\0');
  store.introduce(1);
  t.is(world.connect(1).read('/shared'), 'EACCES');
  t.is(store.domain(1).nodes, 0);
  t.is(store.domain(1).memory, 0);
});
