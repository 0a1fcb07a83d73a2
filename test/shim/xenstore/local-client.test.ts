import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { localClient } from '../../../shim/xenstore/local-client.js';
import { Store } from '../../../shim/xenstore/store.js';

test('a value written is read back, and missing parents appear', (t) => {
  const client = localClient(new Store());
  client.write('/local/domain/1/device/vif/0/state', '1');
  t.is(client.read('/local/domain/1/device/vif/0/state'), '1');
  t.is(client.read('/local/domain/1/device'), '');
  t.deepEqual(client.list('/local/domain/1/device/vif/0'), ['state']);
});

test('a missing node is undefined or false', (t) => {
  const client = localClient(new Store());
  t.is(client.read('/nowhere'), undefined);
  t.is(client.list('/nowhere'), undefined);
  t.false(client.exists('/nowhere'));
  t.false(client.remove('/nowhere/at/all'));
});

test('children are listed in the order they were made', (t) => {
  const client = localClient(new Store());
  for (const name of ['b', 'c', 'a']) client.mkdir(`/dir/${name}`);
  t.deepEqual(client.list('/dir'), ['b', 'c', 'a']);
});

test('a removed node takes everything below it along', (t) => {
  const client = localClient(new Store());
  client.write('/a/b/c', 'x');
  t.true(client.remove('/a/b'));
  t.false(client.exists('/a/b/c'));
  t.deepEqual(client.list('/a'), []);
});

test('a relative or malformed path throws', (t) => {
  const client = localClient(new Store());
  for (const path of ['a', '', '/a/', '/a//b', '/a.b', '@releaseDomain']) t.throws(() => client.read(path), undefined, path);
});

test('a watch fires once at registration, then for the node and its subtree, never synchronously', async (t) => {
  const client = localClient(new Store());
  const seen: string[] = [];
  client.watch('/a', (path) => seen.push(path));
  t.deepEqual(seen, []);
  await turn();
  t.deepEqual(seen, ['/a']);
  client.write('/a/b', '1');
  client.write('/ab', '1');
  t.is(seen.length, 1);
  await turn();
  t.deepEqual(seen, ['/a', '/a/b']);
});

test('changes of one path between two turns are one call', async (t) => {
  const client = localClient(new Store());
  const seen: string[] = [];
  client.watch('/a', (path) => seen.push(path));
  await turn();
  seen.length = 0;
  client.write('/a/b', '1');
  client.write('/a/b', '2');
  await turn();
  t.deepEqual(seen, ['/a/b']);
});

test('after unwatching nothing is called any more, not even what was pending', async (t) => {
  const client = localClient(new Store());
  const unwatch = client.watch('/a', () => t.fail());
  unwatch();
  client.write('/a', '1');
  await turn();
  t.pass();
});

test('removal of a directory fires watches of it, above it and below it', async (t) => {
  const client = localClient(new Store());
  client.write('/a/b/c', '1');
  const seen: string[] = [];
  for (const path of ['/a', '/a/b', '/a/b/c']) client.watch(path, (changed) => seen.push(`${path} ${changed}`));
  await turn();
  seen.length = 0;
  client.remove('/a/b');
  await turn();
  t.deepEqual(seen.sort(), ['/a /a/b', '/a/b /a/b', '/a/b/c /a/b/c']);
});

test('a transaction shows its own writes, hides them until the end and then fires each changed node once', async (t) => {
  const client = localClient(new Store());
  client.write('/a', 'old');
  const seen: string[] = [];
  client.watch('/', (path) => seen.push(`${path}=${client.read(path)}`));
  await turn();
  seen.length = 0;
  const result = client.transaction((tx) => {
    tx.write('/a', 'x');
    tx.write('/a', 'y');
    tx.write('/b', 'z');
    t.is(tx.read('/a'), 'y');
    t.is(client.read('/a'), 'old');
    return 5;
  });
  t.is(result, 5);
  await turn();
  t.deepEqual(seen, ['/a=y', '/b=z']);
});

test('a transaction whose body throws leaves no trace', (t) => {
  const store = new Store();
  const client = localClient(store);
  t.throws(() =>
    client.transaction((tx) => {
      tx.write('/a', 'x');
      throw new Error('no');
    }),
  );
  t.false(client.exists('/a'));
  t.is(store.openTransactions, 0);
});

test('permissions are set in the notation of the wire; nonsense throws', (t) => {
  const store = new Store();
  const client = localClient(store);
  client.mkdir('/a');
  client.setPermissions('/a', ['n1', 'r2']);
  t.deepEqual(store.get('/a')?.permissions, [
    { domid: 1, access: 0 },
    { domid: 2, access: 1 },
  ]);
  for (const bad of [[], ['x1'], ['r'], ['r99999']]) t.throws(() => client.setPermissions('/a', bad));
  t.throws(() => client.setPermissions('/missing', ['n0']));
});
