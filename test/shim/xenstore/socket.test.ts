import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { XsType } from '../../../shim/abi/io/xs_wire.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { encode } from '../../../shim/xenstore/message.js';
import { serveSocket } from '../../../shim/xenstore/socket.js';
import { Xenstore } from '../../../shim/xenstore/xenstore.js';
import { GuestRing } from './helpers/guest-ring.js';
import { parse, type Received } from './helpers/wire-client.js';

const run = promisify(execFile);

async function served(t: ExecutionContext, options = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'xenstore-'));
  const xenstore = new Xenstore();
  const path = join(directory, 'socket');
  const socket = await serveSocket(xenstore, path, options);
  t.teardown(async () => {
    await socket.close();
    rmSync(directory, { recursive: true });
  });
  return { xenstore, socket, path };
}

/** Collects messages until there are `count`. */
async function receive(client: Socket, count: number): Promise<Received[]> {
  let bytes = Buffer.alloc(0);
  for await (const [chunk] of on(client)) {
    bytes = Buffer.concat([bytes, chunk]);
    if (parse(bytes).length >= count) break;
  }
  return parse(bytes);
}

async function* on(client: Socket): AsyncGenerator<[Buffer]> {
  for (;;) yield (await once(client, 'data')) as [Buffer];
}

test('a client has the rights of dom0 and may send several requests at once', async (t) => {
  const { xenstore, path } = await served(t);
  const client = connect(path);
  client.write(Buffer.concat([encode(XsType.WRITE, 1, 0, '/a/b\0v'), encode(XsType.READ, 2, 0, '/a/b\0')]));
  const replies = await receive(client, 2);
  t.deepEqual(replies.map(({ reqId, payload }) => [reqId, payload]), [[1, 'OK\0'], [2, 'v']]);
  t.is(xenstore.client.read('/a/b'), 'v');
  client.destroy();
});

test('a request in pieces is put together', async (t) => {
  const { path } = await served(t);
  const client = connect(path);
  const reply = receive(client, 1);
  for (const byte of encode(XsType.READ, 1, 0, '/tool\0')) {
    client.write(Uint8Array.of(byte));
    await sleep(1);
  }
  t.is((await reply)[0]?.type, XsType.READ);
  client.destroy();
});

test('events reach a client, and its watches end with it', async (t) => {
  const { xenstore, path } = await served(t);
  const client = connect(path);
  client.write(encode(XsType.WATCH, 1, 0, '/a\0tok\0'));
  await receive(client, 2);
  const event = receive(client, 1);
  xenstore.client.write('/a/x', '1');
  t.is((await event)[0]?.payload, '/a/x\0tok\0');
  t.is(xenstore.store.domain(0).watches, 1);
  client.write(encode(XsType.TRANSACTION_START, 2, 0, '\0'));
  await receive(client, 1);
  t.is(xenstore.store.openTransactions, 1);
  client.destroy();
  for (let i = 0; i < 100 && xenstore.store.openTransactions > 0; i++) await sleep(5);
  t.is(xenstore.store.domain(0).watches, 0);
  t.is(xenstore.store.openTransactions, 0);
});

test('a payload over 4096 bytes ends that client alone', async (t) => {
  const { path } = await served(t);
  const [bad, good] = [connect(path), connect(path)];
  const header = encode(XsType.WRITE, 1, 0, '');
  header.writeUInt32LE(4097, 12);
  bad.write(header);
  await once(bad, 'close');
  good.write(encode(XsType.READ, 1, 0, '/tool\0'));
  t.is((await receive(good, 1)).length, 1);
  good.destroy();
});

test('one client too many is turned away, the others stay', async (t) => {
  const { path } = await served(t, { maxConnections: 2 });
  const clients = [connect(path), connect(path)];
  for (const client of clients) {
    client.write(encode(XsType.READ, 1, 0, '/tool\0'));
    await receive(client, 1);
  }
  const third = connect(path);
  third.on('error', () => {});
  await once(third, 'close');
  clients[0]!.write(encode(XsType.READ, 1, 0, '/tool\0'));
  t.is((await receive(clients[0]!, 1)).length, 1);
  for (const client of clients) client.destroy();
});

test('a client that asks and never reads is left waiting, not buffered without end', async (t) => {
  const { xenstore, path } = await served(t);
  xenstore.client.write('/big', 'v'.repeat(4000));
  const client = connect(path);
  client.on('error', () => {});
  client.pause();
  const batch = Buffer.concat(Array.from({ length: 1000 }, () => encode(XsType.READ, 1, 0, '/big\0')));
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 60; i++) {
    client.write(batch);
    await sleep(2);
  }
  // 60,000 replies would be 240 MB.
  t.true(process.memoryUsage().arrayBuffers - before < 80 * 1024 * 1024);
  client.destroy();
});

test('the socket is for its owner alone and goes away on close', async (t) => {
  const { socket, path } = await served(t);
  t.is(statSync(path).mode & 0o777, 0o600);
  const client = connect(path);
  await once(client, 'connect');
  const closed = once(client, 'close');
  await socket.close();
  await closed;
  t.false(existsSync(path));
});

test('a socket left behind is replaced, one in use is refused', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xenstore-'));
  const path = join(directory, 'socket');
  t.teardown(() => rmSync(directory, { recursive: true }));
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script]), 'exit');
  t.true(existsSync(path));
  const socket = await serveSocket(new Xenstore(), path);
  const error = await t.throwsAsync(serveSocket(new Xenstore(), path), { instanceOf: OperatorError });
  t.is(error?.code, 'XENSTORE_SOCKET_BUSY');
  await socket.close();
});

test('a file that is no socket is not removed', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xenstore-'));
  const path = join(directory, 'precious');
  writeFileSync(path, 'data');
  t.teardown(() => rmSync(directory, { recursive: true }));
  await t.throwsAsync(serveSocket(new Xenstore(), path), { instanceOf: OperatorError });
  t.true(existsSync(path));
});

test('a path that cannot be listened at is the operator\'s error', async (t) => {
  const error = await t.throwsAsync(serveSocket(new Xenstore(), '/nonexistent/socket'), { instanceOf: OperatorError });
  t.is(error?.code, 'XENSTORE_SOCKET');
});

/** Where a program is, or undefined. */
function which(program: string): string | undefined {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(directory, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // not here
    }
  }
  return undefined;
}

const withTools = which('xenstore-ls') === undefined ? test.skip : test;
if (withTools === test.skip) {
  console.log('skipped: xenstore-ls is not installed (Debian package xenstore-utils), so no real tool talks to the socket');
}

withTools('the distribution\'s xenstore tools work on the socket', async (t) => {
  const { xenstore, path } = await served(t);
  const env = { ...process.env, XENSTORED_PATH: path };
  const tool = async (name: string, ...args: string[]) => (await run(`xenstore-${name}`, args, { env })).stdout.trim();
  await tool('write', '/tool/test/a', 'one', '/tool/test/b', 'two');
  t.is(await tool('read', '/tool/test/a', '/tool/test/b'), 'one\ntwo');
  t.is(await tool('list', '/tool/test'), 'a\nb');
  await tool('chmod', '/tool/test/a', 'n0', 'r0');
  t.is(await tool('ls', '-fp', '/tool'), [
    '/tool/xenstored = ""   (n0)',
    '/tool/test = ""   (n0)',
    '/tool/test/a = "one"   (n0,r0)',
    '/tool/test/b = "two"   (n0)',
  ].join('\n'));
  await tool('rm', '/tool/test/a');
  t.false(xenstore.client.exists('/tool/test/a'));
  await t.throwsAsync(tool('read', '/tool/test/a'));
  const many = Array.from({ length: 300 }, (_, i) => `child-with-a-long-name-${i}`);
  for (const name of many) xenstore.client.write(`/many/${name}`, '');
  t.is(await tool('list', '/many'), many.join('\n'));
});

withTools('xenstore-watch prints the changes', async (t) => {
  const { xenstore, path } = await served(t);
  const watching = run('xenstore-watch', ['-n', '3', '/a'], { env: { ...process.env, XENSTORED_PATH: path } });
  for (let i = 0; i < 400 && xenstore.store.domain(0).watches === 0; i++) await sleep(5);
  xenstore.client.write('/a/b', '1');
  xenstore.client.remove('/a');
  t.is((await watching).stdout, '/a\n/a/b\n/a\n');
});

test('host tools can ask for domains and release them', async (t) => {
  const { xenstore, path } = await served(t);
  const guest = new GuestRing();
  xenstore.introduce(7, guest.page, guest.notify);
  const client = connect(path);
  const ask = async (type: number, payload: string) => {
    client.write(encode(type, 1, 0, payload));
    return (await receive(client, 1))[0]!.payload;
  };
  t.is(await ask(XsType.IS_DOMAIN_INTRODUCED, '7\0'), 'T\0');
  t.is(await ask(XsType.IS_DOMAIN_INTRODUCED, '8\0'), 'F\0');
  t.is(await ask(XsType.GET_DOMAIN_PATH, '7\0'), '/local/domain/7\0');
  t.is(await ask(XsType.RESUME, '7\0'), 'OK\0');
  t.is(await ask(XsType.RESUME, '8\0'), 'ENOENT\0');
  t.is(await ask(XsType.INTRODUCE, '7\x001\x001\0'), 'OK\0');
  t.is(await ask(XsType.INTRODUCE, '8\x001\x001\0'), 'EINVAL\0');
  t.is(await ask(XsType.INTRODUCE, '7\x001\x000\0'), 'EINVAL\0');
  t.is(await ask(XsType.SET_TARGET, '7\x008\0'), 'ENOENT\0');
  t.is(await ask(XsType.RELEASE, '0\0'), 'EINVAL\0');
  t.is(await ask(XsType.RELEASE, '7\0'), 'OK\0');
  t.is(await ask(XsType.RELEASE, '7\0'), 'ENOENT\0');
  t.is(await ask(XsType.IS_DOMAIN_INTRODUCED, '7\0'), 'F\0');
  t.regex(await ask(XsType.CONTROL, 'help\0'), /quota/);
  t.is(await ask(XsType.CONTROL, 'check\0'), 'OK\0');
  t.is(await ask(XsType.CONTROL, 'nonsense\0'), 'EINVAL\0');
  t.is(await ask(XsType.CONTROL, ''), 'EINVAL\0');
  client.destroy();
});
