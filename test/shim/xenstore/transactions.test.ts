import test from 'ava';
import { XsType } from '../../../shim/abi/io/xs_wire.js';
import { OK, World } from './helpers/wire-client.js';

test('a transaction sees its own changes, the world sees them at its end', (t) => {
  const { guest, dom0 } = new World();
  guest.write('a', 'old');
  const tx = guest.start();
  t.is(guest.write('a', 'new', tx), OK);
  t.is(guest.write('b', 'x', tx), OK);
  t.is(guest.read('a', tx), 'new');
  t.deepEqual(guest.list('/local/domain/1', tx), ['a', 'b']);
  t.is(guest.read('a'), 'old');
  t.is(dom0.read('/local/domain/1/b'), 'ENOENT');
  t.is(guest.end(tx), OK);
  t.is(guest.read('a'), 'new');
  t.is(dom0.read('/local/domain/1/b'), 'x');
});

test('END with F drops everything', (t) => {
  const { guest, store } = new World();
  const { nodes, memory } = store.domain(1);
  const tx = guest.start();
  guest.write('a/b', 'x', tx);
  t.is(guest.end(tx, 'F'), OK);
  t.is(guest.read('a'), 'ENOENT');
  const domain = store.domain(1);
  t.deepEqual([domain.nodes, domain.memory, domain.transactions], [nodes, memory, 0]);
});

test('E47: an unknown transaction is ENOENT, END with neither T nor F is EINVAL', (t) => {
  const { guest, other } = new World();
  t.is(guest.read('a', 1234), 'ENOENT');
  t.is(guest.write('a', 'x', 1234), 'ENOENT');
  t.is(guest.end(1234), 'ENOENT');
  t.is(guest.end(0), 'ENOENT');
  const tx = guest.start();
  for (const how of ['X', '', 'TT', 't']) t.is(guest.end(tx, how), 'EINVAL');
  t.is(guest.ask(XsType.TRANSACTION_END, 'T', tx), 'EINVAL');
  t.is(other.end(tx), 'ENOENT');
  t.is(guest.end(tx), OK);
  t.is(guest.end(tx), 'ENOENT');
});

test('E47: a node read and then changed by somebody else is EAGAIN, without partial effects', (t) => {
  const { guest, dom0, client } = new World();
  guest.write('a', '1');
  const tx = guest.start();
  t.is(guest.read('a', tx), '1');
  guest.write('b', '2', tx);
  dom0.write('/local/domain/1/a', 'other');
  t.is(guest.end(tx), 'EAGAIN');
  t.is(guest.read('b'), 'ENOENT');
  t.is(client.read('/local/domain/1/a'), 'other');
  t.is(guest.read('a', tx), 'ENOENT', 'the transaction is over');
});

const conflicts: Record<string, { inside: [string, string]; outside: [string, string]; conflict: boolean }> = {
  'two writes of one node conflict': { inside: ['write', 'a'], outside: ['write', 'a'], conflict: true },
  'a removed node that was read conflicts': { inside: ['read', 'a'], outside: ['rm', 'a'], conflict: true },
  'a node found missing and then made conflicts': { inside: ['read', 'new'], outside: ['write', 'new'], conflict: true },
  'a listing conflicts with a new child': { inside: ['list', 'dir'], outside: ['write', 'dir/new'], conflict: true },
  'children made under one parent conflict': { inside: ['write', 'dir/x'], outside: ['write', 'dir/y'], conflict: true },
  'permissions changed outside conflict': { inside: ['read', 'a'], outside: ['setPerms', 'a'], conflict: true },
  'nodes the transaction never touched do not matter': { inside: ['write', 'a'], outside: ['write', 'b'], conflict: false },
  'a listing does not conflict with a child\'s value': { inside: ['list', 'dir'], outside: ['write', 'dir/k'], conflict: false },
  'reads outside never conflict': { inside: ['write', 'a'], outside: ['read', 'a'], conflict: false },
};

for (const [title, { inside, outside, conflict }] of Object.entries(conflicts)) {
  test(title, (t) => {
    const { guest, dom0 } = new World();
    for (const path of ['a', 'b', 'dir/k']) guest.write(path, '0');
    const tx = guest.start();
    const [verb, path] = inside;
    if (verb === 'write') guest.write(path, 'in', tx);
    else if (verb === 'read') guest.read(path, tx);
    else guest.list(path, tx);
    const [outsideVerb, outsidePath] = outside;
    const full = `/local/domain/1/${outsidePath}`;
    if (outsideVerb === 'write') dom0.write(full, 'out');
    else if (outsideVerb === 'rm') dom0.rm(full);
    else if (outsideVerb === 'setPerms') dom0.setPerms(full, 'n1', 'r2');
    else dom0.read(full);
    t.is(guest.end(tx), conflict ? 'EAGAIN' : OK);
  });
}

test('of two transactions that touch the same node the second to end gets EAGAIN', (t) => {
  const { guest, dom0 } = new World();
  guest.write('n', '0');
  const [first, second] = [guest.start(), dom0.start()];
  for (const [client, tx, path] of [[guest, first, 'n'], [dom0, second, '/local/domain/1/n']] as const) {
    client.write(path, String(Number(client.read(path, tx)) + 1), tx);
  }
  t.is(dom0.end(second), OK);
  t.is(guest.end(first), 'EAGAIN');
  t.is(guest.read('n'), '1');
});

test('a transaction inside a transaction is EBUSY', (t) => {
  const { guest } = new World();
  const tx = guest.start();
  t.is(guest.ask(XsType.TRANSACTION_START, '\0', tx), 'EBUSY');
});

test('removal inside a transaction removes the subtree at its end', (t) => {
  const { guest } = new World();
  guest.write('a/b/c', 'x');
  const tx = guest.start();
  t.is(guest.rm('a', tx), OK);
  t.is(guest.read('a/b', tx), 'ENOENT');
  t.is(guest.read('a/b/c'), 'x');
  t.is(guest.end(tx), OK);
  t.is(guest.read('a/b/c'), 'ENOENT');
});

test('a node made and removed in one transaction never was', (t) => {
  const { guest, store } = new World();
  const { nodes, memory } = store.domain(1);
  const tx = guest.start();
  guest.write('a/b', 'x', tx);
  guest.rm('a', tx);
  t.is(guest.end(tx), OK);
  t.is(guest.read('a'), 'ENOENT');
  t.deepEqual([store.domain(1).nodes, store.domain(1).memory], [nodes, memory]);
});

test('watches fire at the commit, once per changed node, and not when the transaction fails', (t) => {
  const { guest, other, client } = new World();
  client.setPermissions('/local/domain/1', ['r1']);
  other.watch('/local/domain/1', 'w');
  other.seen();
  const tx = guest.start();
  guest.write('a', '1', tx);
  guest.write('a', '2', tx);
  guest.write('b', '1', tx);
  t.deepEqual(other.seen(), []);
  guest.end(tx);
  t.deepEqual(other.seen(), ['/local/domain/1/a w', '/local/domain/1/b w']);
  const dropped = guest.start();
  guest.write('a', '3', dropped);
  guest.end(dropped, 'F');
  t.deepEqual(other.seen(), []);
});

test('E46: the eleventh transaction is ENOSPC, ending one makes room', (t) => {
  const { guest, other } = new World();
  const ids = Array.from({ length: 10 }, () => guest.start());
  t.is(new Set(ids).size, 10);
  t.false(ids.includes(0));
  t.is(guest.ask(XsType.TRANSACTION_START, '\0'), 'ENOSPC');
  t.true(other.start() > 0, 'another guest is not affected');
  guest.end(ids[3]!, 'F');
  t.true(guest.start() > 0);
});

test('a transaction that touches more than 1024 nodes is doomed with ENOSPC and changes nothing', (t) => {
  const { guest, store } = new World();
  const tx = guest.start();
  guest.write('first', 'x', tx);
  let refused: string | undefined;
  for (let i = 0; i < 1100 && refused === undefined; i++) {
    const reply = guest.read(`missing-${i}`, tx);
    if (reply !== 'ENOENT') refused = reply;
  }
  t.is(refused, 'ENOSPC');
  t.is(guest.write('second', 'x', tx), 'ENOSPC');
  t.is(guest.end(tx), 'ENOSPC');
  t.is(guest.read('first'), 'ENOENT');
  t.is(store.openTransactions, 0);
});
