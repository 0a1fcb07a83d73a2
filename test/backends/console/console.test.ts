import test from 'ava';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../../kvm/native.js';
import { createConsole } from '../../../backends/console/console.js';
import type { ConsoleBackend, ConsoleIo } from '../../../backends/console/console.js';
import { openLogFile } from '../../../backends/console/log-file.js';
import { ConsoleRing } from '../../../backends/console/ring.js';
import { EventThrottle } from '../../../backends/console/throttle.js';
import { CONSOLE_CONNECTION_AT, CONSOLE_IN_SIZE, XenconsInterface } from '../../../shim/abi/io/console.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';

const { in_cons, in_prod, out_cons, out_prod } = XenconsInterface;
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** A console page and its guest. */
class Guest {
  readonly u8 = new Uint8Array(4 * PAGE_SIZE);
  readonly offset = 2 * PAGE_SIZE;
  readonly view = new DataView(this.u8.buffer, this.offset, PAGE_SIZE);
  readonly kickFd = native.eventfd();
  readonly callFd = native.eventfd();

  /** Writes to the out ring without looking for room. */
  print(line: string): void {
    let prod = this.view.getUint32(out_prod, true);
    for (const byte of Buffer.from(line, 'latin1')) this.view.setUint8(XenconsInterface.out + (prod++ & 2047), byte);
    this.view.setUint32(out_prod, prod, true);
  }

  kick(): void {
    native.eventfdSignal(this.kickFd);
  }

  /** Takes what was typed. */
  read(): string {
    let cons = this.view.getUint32(in_cons, true);
    const prod = this.view.getUint32(in_prod, true);
    let line = '';
    for (; cons !== prod; cons = (cons + 1) >>> 0) {
      line += String.fromCharCode(this.view.getUint8(XenconsInterface.in + (cons & 1023)));
    }
    this.view.setUint32(in_cons, cons, true);
    return line;
  }

  /** Events raised since the last call. */
  rung(): number {
    return native.eventfdDrain(this.callFd);
  }

  close(): void {
    native.closeFd(this.kickFd);
    native.closeFd(this.callFd);
  }
}

async function withConsole(
  io: ConsoleIo,
  body: (guest: Guest, console: ConsoleBackend) => Promise<void>,
): Promise<void> {
  const guest = new Guest();
  const console = await createConsole({ page: guest, kickFd: guest.kickFd, callFd: guest.callFd, io });
  try {
    await body(guest, console);
  } finally {
    console.close();
    guest.close();
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 400 && !condition(); tries++) await sleep(5);
  if (!condition()) throw new Error('it never happened');
}

function folder(t: { teardown(fn: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'xenshim-console-'));
  t.teardown(() => {
    rmSync(path, { recursive: true });
  });
  return path;
}

test('what the guest prints is seen, and the guest is told that there is room', async (t) => {
  await withConsole({}, async (guest, console) => {
    let seen = '';
    console.onPrint((bytes) => (seen += text(bytes)));
    guest.print('login: ');
    guest.kick();
    await until(() => seen === 'login: ');
    t.is(guest.view.getUint32(out_cons, true), 7);
    t.is(guest.rung(), 1);
  });
});

test('both rings wrap, indexes and bytes', async (t) => {
  await withConsole({}, async (guest, console) => {
    let seen = '';
    console.onPrint((bytes) => (seen += text(bytes)));
    for (const at of [out_cons, out_prod, in_cons, in_prod]) guest.view.setUint32(at, 0xfffffff0, true);
    const line = 'x'.repeat(1500);
    for (let i = 0; i < 4; i++) {
      guest.print(`${line}${i}`);
      guest.kick();
      await until(() => seen.endsWith(String(i)));
      console.type(Buffer.from(`${'y'.repeat(900)}${i}`));
      t.is(guest.read(), `${'y'.repeat(900)}${i}`);
    }
    t.is(seen.length, 4 * 1501);
  });
});

test('what was printed before anybody listened is not lost', async (t) => {
  const guest = new Guest();
  guest.print('early');
  const output = new PassThrough();
  const console = await createConsole({
    page: guest, kickFd: guest.kickFd, callFd: guest.callFd, io: { terminal: { input: new PassThrough(), output } },
  });
  t.is((output.read() as Buffer).toString(), 'early');
  console.close();
  guest.close();
});

test('more typing than the page holds waits for the guest, and too much holds the typist', async (t) => {
  await withConsole({}, async (guest, console) => {
    const line = Buffer.alloc(100_000, 'ab');
    t.false(console.type(line));
    t.is(guest.view.getUint32(in_prod, true), CONSOLE_IN_SIZE);
    let got = '';
    for (let i = 0; i < 200 && got.length < line.length; i++) {
      got += guest.read();
      guest.kick();
      await sleep(1);
      // No more than 30 looks in 200 ms.
      if (i % 25 === 24) await sleep(200);
    }
    t.is(got, line.toString());
    t.true(console.type(Buffer.from('x')));
  });
});

test('the page says whether anybody is connected', async (t) => {
  const guest = new Guest();
  guest.view.setUint8(CONSOLE_CONNECTION_AT, 1);
  const console = await createConsole({ page: guest, kickFd: guest.kickFd, callFd: guest.callFd, io: {} });
  t.is(guest.view.getUint8(CONSOLE_CONNECTION_AT), 0);
  console.close();
  t.is(guest.view.getUint8(CONSOLE_CONNECTION_AT), 1);
  guest.close();
});

test('a reset takes the page away and brings another; those who watch stay', async (t) => {
  const first = new Guest();
  const second = new Guest();
  const console = await createConsole({ page: first, kickFd: first.kickFd, callFd: first.callFd, io: {} });
  let seen = '';
  console.onPrint((bytes) => (seen += text(bytes)));
  first.print('last words');
  console.letGo();
  t.is(seen, 'last words');
  t.is(first.view.getUint8(CONSOLE_CONNECTION_AT), 1);
  const left = Uint8Array.from(first.u8);
  // Descriptors of the old machine are closed: nothing may watch them any more.
  first.close();
  console.type(Buffer.from('typed meanwhile'));
  await sleep(10);
  t.deepEqual(first.u8, left);
  console.restart({ page: second, kickFd: second.kickFd, callFd: second.callFd });
  t.is(second.read(), 'typed meanwhile');
  second.print(' and first ones');
  second.kick();
  await until(() => seen === 'last words and first ones');
  console.close();
  console.close();
  second.close();
});

test('E91: an out ring that claims 5000 bytes is not read but emptied', async (t) => {
  await withConsole({}, async (guest, console) => {
    let seen = '';
    console.onPrint((bytes) => (seen += text(bytes)));
    guest.view.setUint32(out_prod, 5000, true);
    guest.kick();
    await until(() => guest.view.getUint32(out_cons, true) === 5000);
    t.is(seen, '');
    guest.print('after');
    guest.kick();
    await until(() => seen !== '');
    t.is(seen, 'after');
  });
});

test('E91: an in ring that claims more than it holds is emptied before it is written', (t) => {
  const guest = new Guest();
  const ring = new ConsoleRing(guest);
  guest.view.setUint32(in_prod, 0x80000000, true);
  guest.view.setUint32(in_cons, 7, true);
  t.is(ring.putInput(Buffer.from('abc'), 0), 3);
  t.is(guest.read(), 'abc');
  guest.close();
});

test('E91: nothing outside the page is read or written, whatever the indexes', (t) => {
  const guest = new Guest();
  guest.u8.fill(0xaa);
  const ring = new ConsoleRing(guest);
  const into = new Uint8Array(2048);
  for (const value of [0, 1, 1023, 1024, 2047, 2048, 0x7fffffff, 0x80000000, 0xffffffff]) {
    for (const other of [0, 1, 2048, 0xffffffff]) {
      guest.view.setUint32(out_prod, value, true);
      guest.view.setUint32(out_cons, other, true);
      guest.view.setUint32(in_prod, value, true);
      guest.view.setUint32(in_cons, other, true);
      const count = ring.takeOutput(into);
      t.true(count >= -1 && count <= 2048);
      t.true(ring.putInput(new Uint8Array(3000), 0) <= 1024);
    }
  }
  t.true(guest.u8.subarray(0, guest.offset).every((byte) => byte === 0xaa));
  t.true(guest.u8.subarray(guest.offset + PAGE_SIZE).every((byte) => byte === 0xaa));
  guest.close();
});

test('E91: the 30th event within 200 ms is the last to be heard', (t) => {
  const throttle = new EventThrottle();
  for (let i = 0; i < 29; i++) t.is(throttle.event(1000 + i), 0);
  t.is(throttle.event(1050), 150);
  t.is(throttle.event(1200), 0);
});

test('E91: a guest that floods events is heard at most 30 times in 200 ms, and loses nothing it printed', async (t) => {
  await withConsole({}, async (guest, console) => {
    let looks = 0;
    let seen = '';
    console.onPrint((bytes) => {
      looks++;
      seen += text(bytes);
    });
    const start = performance.now();
    let printed = 0;
    while (performance.now() - start < 700) {
      if (guest.view.getUint32(out_prod, true) - guest.view.getUint32(out_cons, true) < 2000) {
        guest.print('.');
        printed++;
      }
      guest.kick();
      await new Promise((resolve) => setImmediate(resolve));
    }
    // Four periods at most touch 700 ms, and one more for its edges.
    t.true(looks <= 150, `${looks} looks`);
    t.true(looks >= 30);
    await until(() => seen.length === printed);
  });
});

test('several clients of the socket see the same output, and all may type', async (t) => {
  const path = join(folder(t), 'console');
  await withConsole({ socket: path }, async (guest) => {
    t.is(statSync(path).mode & 0o777, 0o600);
    const clients = [connect(path), connect(path)];
    const seen = ['', ''];
    clients.forEach((client, i) => client.on('data', (bytes) => (seen[i] += bytes.toString())));
    await Promise.all(clients.map((client) => new Promise((resolve) => client.once('connect', resolve))));
    await sleep(20);
    guest.print('hello\r\n');
    guest.kick();
    await until(() => seen.every((line) => line === 'hello\r\n'));
    clients[0]!.write('root\n');
    let typed = '';
    await until(() => (typed += guest.read()) === 'root\n');
    clients[1]!.write('ls\n');
    await until(() => (typed += guest.read()) === 'root\nls\n');
    // A client that leaves does not take the others along.
    clients[0]!.destroy();
    await sleep(20);
    guest.print('still here');
    guest.kick();
    await until(() => seen[1]!.endsWith('still here'));
    clients[1]!.destroy();
    t.pass();
  });
  t.throws(() => statSync(path), { code: 'ENOENT' });
});

test('a socket path that cannot be is the operator\'s mistake', async (t) => {
  const guest = new Guest();
  for (const socket of ['/nonexistent/console', `/tmp/${'x'.repeat(200)}`]) {
    const error = await t.throwsAsync(
      createConsole({ page: guest, kickFd: guest.kickFd, callFd: guest.callFd, io: { socket } }),
      { instanceOf: OperatorError },
    );
    t.is(error.code, 'CONSOLE_SOCKET');
  }
  guest.close();
});

test('the log keeps what was printed, after what an earlier run left', async (t) => {
  const log = join(folder(t), 'guest.log');
  for (const line of ['one\n', 'two\n']) {
    await withConsole({ log }, async (guest) => {
      guest.print(line);
      guest.kick();
      await until(() => readFileSync(log, 'utf8').endsWith(line));
    });
  }
  t.is(readFileSync(log, 'utf8'), 'one\ntwo\n');
});

test('a log that has grown to its limit is moved away once', (t) => {
  const path = join(folder(t), 'guest.log');
  const log = openLogFile(path, 1000);
  for (let i = 0; i < 50; i++) log.print(Buffer.alloc(100, 'a'));
  log.close();
  t.true(statSync(path).size <= 1100);
  t.true(statSync(`${path}.1`).size <= 1100);
});

/** A terminal in memory. */
class FakeTty extends PassThrough {
  readonly isTTY = true;
  raw = false;

  setRawMode(raw: boolean): this {
    this.raw = raw;
    return this;
  }
}

test('a terminal is in raw mode while attached; Ctrl-] gives it back, and output goes on', async (t) => {
  const input = new FakeTty();
  const output = new PassThrough();
  let detached = 0;
  await withConsole({ terminal: { input, output, detached: () => detached++ } }, async (guest) => {
    t.true(input.raw);
    input.write('a\x03b');
    await until(() => guest.view.getUint32(in_prod, true) === 3);
    t.is(guest.read(), 'a\x03b');
    input.write('c\x1dd');
    await until(() => detached === 1);
    t.false(input.raw);
    t.is(guest.read(), 'c');
    input.write('e');
    guest.print('still printing');
    guest.kick();
    await until(() => output.readableLength > 0);
    t.is((output.read() as Buffer).toString(), 'still printing');
    t.is(guest.read(), '');
  });
  t.is(detached, 1);
});

test('a pipe is passed on byte by byte, Ctrl-] too', async (t) => {
  const input = new PassThrough();
  await withConsole({ terminal: { input, output: new PassThrough() } }, async (guest) => {
    input.write('x\x1dy');
    await until(() => guest.view.getUint32(in_prod, true) === 3);
    t.is(guest.read(), 'x\x1dy');
  });
});
