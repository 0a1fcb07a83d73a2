import test from 'ava';
import { XsType } from '../../../shim/abi/io/xs_wire.js';
import { OK, World } from './helpers/wire-client.js';

test('a guest reads what it wrote, bytes of any value included', (t) => {
  const { guest } = new World();
  const bytes = String.fromCharCode(...Array(256).keys());
  t.is(guest.write('data', bytes), OK);
  t.is(guest.read('data'), bytes);
  t.is(guest.read('/local/domain/1/data'), bytes);
});

test('WRITE without a NUL behind the path is EINVAL; an empty value is a value', (t) => {
  const { guest } = new World();
  t.is(guest.ask(XsType.WRITE, 'data'), 'EINVAL');
  t.is(guest.ask(XsType.WRITE, 'data\0'), OK);
  t.is(guest.read('data'), '');
});

test('READ takes exactly one string that ends in its only NUL', (t) => {
  const { guest } = new World();
  guest.write('data', 'x');
  for (const payload of ['', 'data', 'data\0data\0', 'data\0x', '\0']) t.is(guest.ask(XsType.READ, payload), 'EINVAL');
});

test('WRITE makes missing parents, which inherit permissions and belong to the guest that made them', (t) => {
  const { guest, dom0, client } = new World();
  client.setPermissions('/local/domain/1', ['n0', 'b1', 'r2']);
  t.is(guest.write('a/b/c', 'x'), OK);
  for (const path of ['a', 'a/b', 'a/b/c']) t.is(dom0.perms(`/local/domain/1/${path}`), 'n1\0b1\0r2\0');
  t.is(dom0.write('/local/domain/1/d', 'x'), OK);
  t.is(dom0.perms('/local/domain/1/d'), 'n0\0b1\0r2\0');
});

test('MKDIR of an existing node changes nothing and tells nobody', (t) => {
  const { guest } = new World();
  guest.write('a', 'x');
  guest.watch('a', 'tok');
  guest.seen();
  t.is(guest.mkdir('a'), OK);
  t.is(guest.read('a'), 'x');
  t.deepEqual(guest.seen(), []);
});

test('RM of a missing node is fine under an existing parent and ENOENT otherwise', (t) => {
  const { guest, dom0 } = new World();
  t.is(guest.rm('nothing'), OK);
  t.is(guest.rm('nothing/at/all'), 'ENOENT');
  t.is(dom0.rm('/'), 'EINVAL');
  t.is(guest.rm('/'), 'EACCES');
});

test('RM takes the subtree and gives its quota back', (t) => {
  const { guest, store } = new World();
  const before = { ...store.domain(1) };
  guest.write('a/b/c', 'x');
  guest.write('a/d', 'x');
  t.is(guest.rm('a'), OK);
  t.is(guest.read('a/b/c'), 'ENOENT');
  t.deepEqual(guest.list('/local/domain/1'), []);
  t.is(store.domain(1).nodes, before.nodes);
  t.is(store.domain(1).memory, before.memory);
});

test('DIRECTORY lists children in creation order; of a leaf it is empty', (t) => {
  const { guest } = new World();
  for (const name of ['z', 'a', 'm']) guest.write(`dir/${name}`, '');
  t.deepEqual(guest.list('dir'), ['z', 'a', 'm']);
  t.deepEqual(guest.list('dir/z'), []);
  t.is(guest.list('missing'), 'ENOENT');
});

test('a listing over 4096 bytes is E2BIG, and DIRECTORY_PART delivers it in pieces', (t) => {
  const { dom0 } = new World();
  const names = Array.from({ length: 400 }, (_, i) => `child-number-${String(i).padStart(4, '0')}`);
  for (const name of names) dom0.write(`/dir/${name}`, '');
  t.is(dom0.list('/dir'), 'E2BIG');

  let list = '';
  let generation: string | undefined;
  for (let parts = 0; ; parts++) {
    const reply = dom0.raw(XsType.DIRECTORY_PART, `/dir\0${list.length}\0`);
    t.is(reply.type, XsType.DIRECTORY_PART);
    t.true(reply.payload.length <= 4096);
    const cut = reply.payload.indexOf('\0') + 1;
    generation ??= reply.payload.slice(0, cut);
    t.is(reply.payload.slice(0, cut), generation);
    const piece = reply.payload.slice(cut);
    list += piece;
    if (piece.endsWith('\0\0') || piece === '\0') break;
    t.true(parts < 10);
  }
  t.deepEqual(list.split('\0').slice(0, -2), names);
  dom0.write('/dir/one-more', '');
  t.not(dom0.raw(XsType.DIRECTORY_PART, '/dir\x000\0').payload.split('\0')[0], generation?.slice(0, -1));
});

test('DIRECTORY_PART past the end is the generation and an empty name; a wrong count of arguments EINVAL', (t) => {
  const { dom0 } = new World();
  t.regex(dom0.ask(XsType.DIRECTORY_PART, '/tool\x009999\0'), /^\d+\0\0$/);
  t.is(dom0.ask(XsType.DIRECTORY_PART, '/tool\0'), 'EINVAL');
});

test('replies echo request and transaction ids; errors are a name and a NUL', (t) => {
  const { guest } = new World();
  const reply = guest.raw(XsType.READ, 'missing\0', 0);
  t.is(reply.type, XsType.ERROR);
  t.is(reply.payload, 'ENOENT\0');
  const tx = guest.start();
  t.is(guest.raw(XsType.READ, 'missing\0', tx).txId, tx);
});

test('types that do not exist are ENOSYS, those only a server sends too', (t) => {
  const { guest, dom0 } = new World();
  for (const type of [15, 16, 20, 23, 24, 27, 0xffff, 0xffffffff]) {
    t.is(guest.ask(type, 'x\0'), 'ENOSYS', `type ${type}`);
    t.is(dom0.ask(type, 'x\0'), 'ENOSYS', `type ${type}`);
  }
});

test('E44: paths with bad characters, empty components, a trailing slash or too long are EINVAL', (t) => {
  const { guest, dom0 } = new World();
  const long = 'x'.repeat(2049);
  for (const path of ['a.b', '/a//b', '/a/', '', '//', 'a b', 'a\n', '/é', '@releaseDomain', long, `/${'x'.repeat(2048)}`]) {
    t.is(guest.read(path), 'EINVAL', path.slice(0, 20));
    t.is(guest.write(path, 'x'), 'EINVAL', path.slice(0, 20));
    t.is(guest.mkdir(path), 'EINVAL', path.slice(0, 20));
    t.is(guest.rm(path), 'EINVAL', path.slice(0, 20));
    t.is(dom0.list(path), 'EINVAL', path.slice(0, 20));
  }
  t.is(guest.watch('a.b', 't'), 'EINVAL');
  t.is(guest.setPerms('/a/', 'n1'), 'EINVAL');
});

test('E44: the length limit counts from behind the domain home', (t) => {
  const { dom0, client, store } = new World();
  const path = `/local/domain/1/${'x'.repeat(2048)}`;
  t.is(dom0.write(path, 'v'), OK);
  t.is(client.read(path), 'v');
  t.is(dom0.write(`${path}x`, 'v'), 'EINVAL');
  t.is(dom0.write(`/${'x'.repeat(2047)}`, 'v'), OK);
  t.is(dom0.write(`/${'x'.repeat(2048)}`, 'v'), 'EINVAL');
  t.truthy(store.get(path));
});

test('a failure of our own is EIO for the client that met it', (t) => {
  const { guest, store } = new World();
  store.get = () => {
    throw new Error('bug');
  };
  t.is(guest.read('a'), 'EIO');
});
