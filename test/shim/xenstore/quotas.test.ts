import test from 'ava';
import { XsType } from '../../../shim/abi/io/xs_wire.js';
import { OK, World } from './helpers/wire-client.js';

test('E46: the 1001st node is ENOSPC; what exists can still be written', (t) => {
  const { guest, store } = new World();
  let made = store.domain(1).nodes;
  for (let dir = 0; made < 1000; dir++) {
    if (guest.mkdir(`d${dir}`) === OK) made++;
    for (let i = 0; i < 100 && made < 1000; i++) {
      if (guest.write(`d${dir}/${i}`, '') === OK) made++;
    }
  }
  t.is(store.domain(1).nodes, 1000);
  t.is(guest.write('d0/more', 'x'), 'ENOSPC');
  t.is(guest.mkdir('d0/more'), 'ENOSPC');
  t.is(guest.read('d0/more'), 'ENOENT');
  t.is(guest.write('d0/0', 'new'), OK);
  const tx = guest.start();
  t.is(guest.write('d0/more', 'x', tx), 'ENOSPC');
  guest.rm('d0/0', tx);
  t.is(guest.write('d0/more', 'x', tx), OK);
  t.is(guest.end(tx), OK);
  t.is(store.domain(1).nodes, 1000);
});

test('E46: a chain of missing parents counts whole, and is refused whole', (t) => {
  const { guest, store } = new World({ nodes: 4 });
  t.is(guest.write('a/b/c/d', 'x'), 'ENOSPC');
  t.is(guest.read('a'), 'ENOENT');
  t.is(store.domain(1).nodes, 1);
  t.is(guest.write('a/b/c', 'x'), OK);
});

test('E46: two transactions cannot together exceed the quota', (t) => {
  const { guest } = new World({ nodes: 4 });
  guest.mkdir('p');
  guest.mkdir('q');
  const [one, two] = [guest.start(), guest.start()];
  t.is(guest.write('p/a', 'x', one), OK);
  t.is(guest.write('q/b', 'x', two), OK);
  t.is(guest.end(one), OK);
  t.is(guest.end(two), 'ENOSPC');
  t.is(guest.read('q/b'), 'ENOENT');
});

test('E46: the 129th watch is ENOSPC, and unwatching makes room', (t) => {
  const { guest, other } = new World();
  for (let i = 0; i < 128; i++) t.is(guest.watch('a', `t${i}`), OK);
  t.is(guest.watch('a', 'more'), 'ENOSPC');
  t.is(other.watch('a', 'more'), OK);
  t.is(guest.unwatch('a', 't5'), OK);
  t.is(guest.watch('a', 'more'), OK);
});

test('E46: memory is bounded at 2.5 MiB, whatever it is spent on', (t) => {
  const { guest, store } = new World({ nodes: 0, 'transaction-nodes': 0 });
  const value = 'x'.repeat(1900);
  let refused: string | undefined;
  for (let i = 0; i < 3000 && refused === undefined; i++) {
    const reply = guest.write(`dir${i % 90}/${i}`, value);
    if (reply !== OK) refused = reply;
  }
  t.is(refused, 'ENOMEM');
  t.true(store.domain(1).memory <= 2.5 * 1024 * 1024);
  t.is(guest.write('dir0/0', ''), OK, 'shrinking is always allowed');
});

test('E46: what a transaction holds counts as well, and is given back', (t) => {
  const { guest, store } = new World({ nodes: 0, 'transaction-nodes': 0 });
  const before = store.domain(1).memory;
  const tx = guest.start();
  let refused: string | undefined;
  for (let i = 0; i < 3000 && refused === undefined; i++) {
    const reply = guest.write(`dir${i % 90}/${i}`, 'x'.repeat(1900), tx);
    if (reply !== OK) refused = reply;
  }
  t.is(refused, 'ENOMEM');
  guest.end(tx, 'F');
  t.is(store.domain(1).memory, before);
});

test('a node over 2048 bytes is ENOSPC for a guest, header, permissions, value and names counted', (t) => {
  const { guest, dom0 } = new World();
  t.is(guest.write('a', 'x'.repeat(2048 - 24 - 8)), OK);
  t.is(guest.write('a', 'x'.repeat(2048 - 24 - 8 + 1)), 'ENOSPC');
  t.is(guest.write('b', 'x'.repeat(2048 - 24 - 8 + 1)), 'ENOSPC');
  t.is(guest.read('b'), 'ENOENT');
  t.is(dom0.write('/big', 'x'.repeat(4000)), OK);
  let names = 0;
  while (guest.write(`dir/${'n'.repeat(96)}${String(names).padStart(3, '0')}`, '') === OK) names++;
  t.is(names, Math.floor((2048 - 24 - 8) / 100));
});

test('dom0 has no quotas but those of the protocol', (t) => {
  const { dom0 } = new World();
  for (let i = 0; i < 1200; i++) dom0.write(`/many/${i % 7}/${i}`, '');
  for (let i = 0; i < 200; i++) t.is(dom0.watch('/many', `t${i}`), OK);
  for (let i = 0; i < 20; i++) t.true(dom0.start() > 0);
  t.is((dom0.list('/many/0') as string[]).length, 172);
});

test('GET_QUOTA and SET_QUOTA name, read and change quotas, of one domain or of new ones', (t) => {
  const { dom0, guest, store } = new World();
  const get = (...args: string[]) => dom0.ask(XsType.GET_QUOTA, args.map((arg) => `${arg}\0`).join(''));
  const set = (...args: string[]) => dom0.ask(XsType.SET_QUOTA, args.map((arg) => `${arg}\0`).join(''));
  t.true(get().split(' ').includes('nodes'));
  t.is(get('nodes'), '1000\0');
  t.is(set('1', 'watches', '1'), OK);
  t.is(get('1', 'watches'), '1\0');
  t.is(get('2', 'watches'), '128\0');
  t.is(guest.watch('a', '1'), OK);
  t.is(guest.watch('a', '2'), 'ENOSPC');
  t.is(set('watches', '5'), OK);
  t.is(store.domain(9).quotas.watches, 5);
  for (const bad of [['nonsense'], ['x', 'nodes'], ['1', '2', 'nodes']]) t.is(get(...bad), 'EINVAL');
  t.is(get('77', 'nodes'), 'ENOENT');
  for (const bad of [[], ['nodes'], ['nodes', '-1'], ['nodes', 'x'], ['__proto__', '1']]) t.is(set(...bad), 'EINVAL');
});

test('guests that write while transactions are open share 200 writes a second after their burst', (t) => {
  const { rate, store, clock, guest } = new World();
  for (let i = 0; i < 1000; i++) rate.debit(1);
  t.is(rate.delay(1), 0, 'nobody to disturb');
  guest.start();
  let burst = 0;
  while (rate.delay(1) === 0 && burst < 100) {
    rate.debit(1);
    burst++;
  }
  t.is(burst, 11);
  t.is(store.guests, 2);
  t.is(rate.delay(1), 10, '200 a second, shared by two');
  clock.advance(10);
  t.is(rate.delay(1), 0);
  t.is(rate.delay(2), 0, 'the other guest has its own credit');
});
