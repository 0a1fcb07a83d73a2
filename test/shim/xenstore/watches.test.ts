import test from 'ava';
import { XsType } from '../../../shim/abi/io/xs_wire.js';
import { OK, World } from './helpers/wire-client.js';

test('E49: the acknowledgement of WATCH comes before its first event, which comes at once', (t) => {
  const { guest } = new World();
  guest.connection.handle({ type: XsType.WATCH, reqId: 9, txId: 0, payload: Buffer.from('data\0tok\0') });
  t.deepEqual(guest.take(), [
    { type: XsType.WATCH, reqId: 9, txId: 0, payload: OK },
    { type: XsType.WATCH_EVENT, reqId: 0, txId: 0, payload: 'data\0tok\0' },
  ]);
});

test('E49: UNWATCH of a watch that is not there is ENOENT', (t) => {
  const { guest } = new World();
  t.is(guest.unwatch('data', 'tok'), 'ENOENT');
  guest.watch('data', 'tok');
  t.is(guest.unwatch('data', 'other'), 'ENOENT');
  t.is(guest.unwatch('/local/domain/1/data', 'tok'), OK, 'relative and absolute name the same node');
  t.is(guest.unwatch('data', 'tok'), 'ENOENT');
});

test('E48: the same path and token twice is EEXIST; another token is another watch', (t) => {
  const { guest, other } = new World();
  t.is(guest.watch('data', 'tok'), OK);
  t.is(guest.watch('data', 'tok'), 'EEXIST');
  t.is(guest.watch('/local/domain/1/data', 'tok'), 'EEXIST');
  t.is(guest.watch('data', 'tok2'), OK);
  t.is(other.watch('/local/domain/1/data', 'tok'), OK);
});

test('a watch needs exactly a path and a token', (t) => {
  const { guest } = new World();
  for (const payload of ['', 'data\0', 'data\0tok', 'data\0tok\x001\0']) {
    t.is(guest.ask(XsType.WATCH, payload), 'EINVAL');
    t.is(guest.ask(XsType.UNWATCH, payload), 'EINVAL');
  }
});

test('a relative watch reports relative paths, an absolute one absolute paths', (t) => {
  const { guest } = new World();
  guest.watch('data', 'rel');
  guest.watch('/local/domain/1/data', 'abs');
  guest.seen();
  guest.write('data/x', '1');
  t.deepEqual(guest.seen().sort(), ['/local/domain/1/data/x abs', 'data/x rel']);
});

test('a watch fires for its node and all below, not for what merely starts with its name', (t) => {
  const { guest } = new World();
  guest.watch('a', 'w');
  guest.seen();
  guest.write('a', '1');
  guest.write('a/b/c', '1');
  guest.write('ab', '1');
  t.deepEqual(guest.seen(), ['a w', 'a/b/c w']);
});

test('a watch on the root sees everything its owner may read', (t) => {
  const { guest, dom0 } = new World();
  guest.watch('/', 'g');
  dom0.watch('/', 'h');
  guest.seen();
  dom0.seen();
  dom0.write('/secret', 'x');
  guest.write('mine', 'x');
  t.deepEqual(guest.seen(), ['/local/domain/1/mine g']);
  t.deepEqual(dom0.seen(), ['/secret h', '/local/domain/1/mine h']);
});

test('a watch on a missing node is allowed and fires when the node appears', (t) => {
  const { guest } = new World();
  t.is(guest.watch('later/on', 'w'), OK);
  guest.seen();
  guest.write('later/on', '1');
  t.deepEqual(guest.seen(), ['later/on w']);
});

test('removal fires the watches above, on and below the node', (t) => {
  const { guest } = new World();
  guest.write('a/b/c', '1');
  for (const path of ['a', 'a/b', 'a/b/c', 'a/x']) guest.watch(path, path);
  guest.seen();
  guest.rm('a/b');
  t.deepEqual(guest.seen().sort(), ['a/b a', 'a/b a/b', 'a/b/c a/b/c']);
});

test('removal of a missing node fires nothing', (t) => {
  const { guest } = new World();
  guest.watch('a', 'w');
  guest.seen();
  guest.rm('a');
  t.deepEqual(guest.seen(), []);
});

test('nobody learns of nodes it may not read', (t) => {
  const { guest, other } = new World();
  other.watch('/local/domain/1', 'w');
  t.deepEqual(other.seen(), ['/local/domain/1 w'], 'the first event comes regardless');
  guest.write('secret', '1');
  guest.rm('secret');
  t.deepEqual(other.seen(), []);
});

test('who loses the right to read hears of that change, and then nothing more', (t) => {
  const { guest, other } = new World();
  guest.write('a', '1');
  guest.setPerms('a', 'r1');
  other.watch('/local/domain/1/a', 'w');
  other.seen();
  guest.setPerms('a', 'n1');
  t.deepEqual(other.seen(), ['/local/domain/1/a w']);
  guest.write('a', '2');
  t.deepEqual(other.seen(), []);
});

test('an event that waits unread is not queued twice', (t) => {
  const { guest, client } = new World();
  guest.watch('a', 'w');
  guest.seen();
  for (const value of ['1', '2', '3']) client.write('/local/domain/1/a', value);
  client.write('/local/domain/1/a/b', '1');
  t.deepEqual(guest.seen(), ['a w', 'a/b w']);
  client.write('/local/domain/1/a', '4');
  t.deepEqual(guest.seen(), ['a w']);
});

test('RESET_WATCHES drops watches and transactions', (t) => {
  const { guest, store } = new World();
  guest.watch('a', 'w');
  const tx = guest.start();
  t.is(guest.ask(XsType.RESET_WATCHES, '\0'), OK);
  guest.seen();
  guest.write('a', '1');
  t.deepEqual(guest.seen(), []);
  t.is(guest.read('a', tx), 'ENOENT');
  t.deepEqual([store.domain(1).watches, store.domain(1).transactions, store.openTransactions], [0, 0, 0]);
  t.is(guest.watch('a', 'w'), OK);
});

test('@introduceDomain and @releaseDomain reach dom0, and guests only when allowed', (t) => {
  const { guest, dom0, store } = new World();
  for (const client of [guest, dom0]) {
    for (const special of ['@introduceDomain', '@releaseDomain']) t.is(client.watch(special, 's'), OK);
    client.seen();
  }
  store.introduce(5);
  store.release(5);
  t.deepEqual(dom0.seen(), ['@introduceDomain s', '@releaseDomain s']);
  t.deepEqual(guest.seen(), []);
  t.is(dom0.setPerms('@releaseDomain', 'n0', 'r1'), OK);
  guest.seen();
  store.introduce(5);
  store.release(5);
  t.deepEqual(guest.seen(), ['@releaseDomain s']);
});

test('an event too long for a message is not sent', (t) => {
  const { guest } = new World();
  const token = 't'.repeat(4080);
  t.is(guest.watch('a', token), OK);
  guest.seen();
  guest.write('a/with-a-name-that-no-longer-fits', '1');
  t.deepEqual(guest.seen(), []);
});
