import test, { type ExecutionContext } from 'ava';
import { existsSync, linkSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ask, reachable } from '../../../cli/control/client.js';
import { Deframer, frame } from '../../../cli/control/frames.js';
import { serveControl, type ControlHandlers, type ControlServer } from '../../../cli/control/server.js';
import { makeRunDir, runDir } from '../../../cli/run-dir.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { refusedLater } from '../refused.js';

const root = mkdtempSync(join(tmpdir(), 'xenshim-ctl-'));
process.env['XENSHIM_RUNDIR'] = root;
test.after.always(() => rmSync(root, { recursive: true }));

const handlers: ControlHandlers = {
  echo: (args) => args,
  later: (args) => new Promise((resolve) => setTimeout(() => resolve(args['ms']), Number(args['ms']))),
  mistake: () => {
    throw new OperatorError('NOT_NOW', 'the guest has no console', 'wait');
  },
  fault: () => {
    throw new TypeError('undefined is not a function');
  },
  nothing: () => undefined,
};

let names = 0;

/** A guest's control socket under a name of its own. */
async function guest(t: ExecutionContext, does = handlers): Promise<{ name: string; path: string; server: ControlServer }> {
  const name = `guest-${names++}`;
  const { control: path } = makeRunDir(name);
  const server = await serveControl(path, name, does);
  t.teardown(() => server.close());
  return { name, path, server };
}

/** A client that writes these bytes; resolves to the messages it got until it was hung up on, or got `expected`. */
function client(path: string, bytes: Buffer, expected: number): Promise<{ got: unknown[]; hungUp: boolean }> {
  return new Promise((resolve, reject) => {
    const deframer = new Deframer();
    const got: unknown[] = [];
    const socket: Socket = connect(path, () => socket.write(bytes));
    const timer = setTimeout(() => reject(new Error('neither an answer nor the end')), 5000);
    const end = (hungUp: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ got, hungUp });
    };
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      got.push(...deframer.push(chunk));
      if (expected > 0 && got.length >= expected) end(false);
    });
    socket.on('close', () => end(true));
  });
}

test('a command gets its arguments and its value comes back', async (t) => {
  const { name } = await guest(t);
  const args = { path: '/local/domain/1', value: 'ä', list: [1, 2], none: null };
  t.deepEqual(await ask(name, 'echo', args), args);
  t.is(await ask(name, 'nothing'), undefined);
  t.deepEqual(await ask(name, 'echo'), {});
});

test('a long value comes back whole', async (t) => {
  const { name } = await guest(t);
  const text = 'x'.repeat(3_000_000);
  t.deepEqual(await ask(name, 'echo', { text }), { text });
});

test("an operator's mistake reaches the client with its code and remedy", async (t) => {
  const { name } = await guest(t);
  t.is(await refusedLater(t, 'NOT_NOW', () => ask(name, 'mistake')), 'the guest has no console: wait [NOT_NOW]');
});

test('a fault in a command is answered as one, and the next command works', async (t) => {
  const { name } = await guest(t);
  t.regex(await refusedLater(t, 'INTERNAL', () => ask(name, 'fault')), /undefined is not a function/);
  t.deepEqual(await ask(name, 'echo', { a: 1 }), { a: 1 });
});

test('a command that is not there is refused, and so are those every object has', async (t) => {
  const { name } = await guest(t);
  for (const command of ['destroy', '', 'toString', '__proto__', 'constructor']) {
    await refusedLater(t, 'UNKNOWN_COMMAND', () => ask(name, command));
  }
});

test('a guest that does not run is named, with those that do', async (t) => {
  const { name } = await guest(t);
  const line = await refusedLater(t, 'NO_GUEST', () => ask('nobody', 'status'));
  t.regex(line, /'nobody'/);
  t.true(line.includes(name));
});

test('answers keep the order of their requests', async (t) => {
  const { path } = await guest(t);
  const requests = [30, 1, 10].map((ms) => frame({ command: 'later', args: { ms } }));
  const { got } = await client(path, Buffer.concat(requests), 3);
  t.deepEqual(got, [30, 1, 10].map((value) => ({ ok: true, value })));
});

test('a slow command does not keep other clients waiting', async (t) => {
  const { name } = await guest(t);
  const order: string[] = [];
  await Promise.all([
    ask(name, 'later', { ms: 200 }).then(() => order.push('slow')),
    ask(name, 'echo').then(() => order.push('quick')),
  ]);
  t.deepEqual(order, ['quick', 'slow']);
});

test('messages that are no requests are answered, and the guest runs on', async (t) => {
  const { name, path } = await guest(t);
  for (const message of [null, undefined, 7, 'status', true, [], ['echo'], { command: 5 }, { command: null }, {}]) {
    const { got } = await client(path, frame(message), 1);
    t.like(got[0], { ok: false, code: 'UNKNOWN_COMMAND' }, JSON.stringify(message));
  }
  for (const args of [null, 7, 'x', [1]]) {
    const { got } = await client(path, frame({ command: 'echo', args }), 1);
    t.like(got[0], { ok: false, code: 'BAD_REQUEST' }, JSON.stringify(args));
  }
  t.deepEqual(await ask(name, 'echo', { still: 'here' }), { still: 'here' });
});

test('a client that sends garbage or announces too much is hung up on, and nobody else notices', async (t) => {
  const { name, path } = await guest(t);
  const oversize = Buffer.from([0xff, 0xff, 0xff, 0xff]);
  const garbage = Buffer.concat([Buffer.from([8, 0, 0, 0]), Buffer.alloc(8, 0xc1)]);
  const trailing = Buffer.concat([Buffer.from([2, 0, 0, 0]), Buffer.from([0x01, 0x02])]);
  const hugeArray = Buffer.concat([Buffer.from([5, 0, 0, 0]), Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])]);
  const deep = Buffer.concat([Buffer.from([0x40, 0x42, 0x0f, 0]), Buffer.alloc(1_000_000, 0x91)]);
  const http = Buffer.from('GET / HTTP/1.1\r\n\r\n');
  for (const bytes of [oversize, garbage, trailing, hugeArray, deep, http]) {
    const { got, hungUp } = await client(path, bytes, 0);
    t.true(hungUp);
    t.deepEqual(got, []);
  }
  t.deepEqual(await ask(name, 'echo', { still: 'here' }), { still: 'here' });
});

test('a client that leaves in the middle of a message or before its answer is no harm', async (t) => {
  const { name, path } = await guest(t);
  for (const bytes of [Buffer.from([9]), frame({ command: 'later', args: { ms: 20 } })]) {
    await new Promise<void>((resolve) => {
      const socket = connect(path, () => socket.write(bytes, () => {
        socket.destroy();
        resolve();
      }));
    });
  }
  await new Promise((resolve) => setTimeout(resolve, 40));
  t.deepEqual(await ask(name, 'echo'), {});
});

test('a name that is taken is refused, and the guest that has it keeps its socket', async (t) => {
  const { name, path } = await guest(t);
  await refusedLater(t, 'NAME_TAKEN', () => serveControl(path, name, handlers));
  t.deepEqual(await ask(name, 'echo'), {});
});

test('a socket nobody listens on is replaced', async (t) => {
  const name = 'left-behind';
  const { control } = makeRunDir(name);
  // Closing a server takes its path away, so a second name of it is what a killed process would have left.
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(`${control}.old`, resolve));
  linkSync(`${control}.old`, control);
  await new Promise((resolve) => dead.close(resolve));
  t.true(existsSync(control));
  t.false(await reachable(control));
  const server = await serveControl(control, name, handlers);
  t.teardown(() => server.close());
  t.deepEqual(await ask(name, 'echo'), {});
});

test('closing hangs up on every client and takes no new one', async (t) => {
  let called: () => void = () => {};
  const begun = new Promise<void>((resolve) => (called = resolve));
  const { name, path, server } = await guest(t, { forever: () => (called(), new Promise(() => {})) });
  const waiting = refusedLater(t, 'NO_ANSWER', () => ask(name, 'forever'));
  await begun;
  await server.close();
  await waiting;
  t.false(await reachable(path));
  await refusedLater(t, 'NO_GUEST', () => ask(name, 'forever'));
});

test('an answer that is no message is reported, not thrown out of the event loop', async (t) => {
  const name = 'liar';
  const { control } = makeRunDir(name);
  for (const bytes of [Buffer.alloc(16, 0xff), Buffer.concat([Buffer.from([1, 0, 0, 0]), Buffer.from([0xc1])])]) {
    const liar = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(bytes));
    });
    await new Promise<void>((resolve) => liar.listen(control, resolve));
    try {
      await refusedLater(t, 'NO_ANSWER', () => ask(name, 'echo'));
    } finally {
      await new Promise((resolve) => liar.close(resolve));
    }
  }
  t.is(runDir(name).control, control);
});
