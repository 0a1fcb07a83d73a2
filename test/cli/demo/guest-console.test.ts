import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CommandError, ConsoleError, GuestConsole } from '../../../cli/demo/guest-console.js';

interface Play {
  /** What a command line prints. */
  readonly answer: (line: string, socket: Socket) => string;
  /** Exit status of every command after the login. */
  readonly status?: number;
}

/** A guest's console played: a login prompt, then answers to command lines, which are echoed until told not to. */
async function played(t: ExecutionContext, { answer, status = 0 }: Play): Promise<GuestConsole> {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-console-'));
  const server: Server = createServer((socket) => {
    let text = '';
    let commands = 0;
    let echo = true;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        const mark = /'(done-\d+)'/.exec(line)?.[1];
        if (echo) socket.write(`${line}\r\n`);
        if (line.includes('stty -echo')) echo = false;
        if (line === 'root') {
          socket.write('root@guest:~# ');
        } else if (mark === undefined) {
          const output = answer(line, socket);
          if (output !== '') socket.write(`${output}\r\n`);
        } else {
          // The first is the login's own.
          socket.write(`\r\n@${mark}:${commands++ === 0 ? 0 : status}@\r\n`);
        }
      }
    });
    socket.write('\r\nDebian GNU/Linux 13 guest hvc0\r\n\r\nguest login: ');
  });
  const path = join(dir, 'console.sock');
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const console = new GuestConsole(path, () => true);
  t.teardown(() => console.disconnect());
  await console.login();
  return console;
}

test('after the login, just what a command prints comes back, with \\n for line ends', async (t) => {
  const console = await played(t, { answer: (line) => (line === 'two' ? 'first\r\nsecond' : '') });
  t.is(await console.output('two'), 'first\nsecond');
});

test('a command that fails is told apart from a guest that answers no more', async (t) => {
  const console = await played(t, { answer: () => 'no such thing', status: 3 });
  const error = await t.throwsAsync(console.output('broken'), { instanceOf: CommandError });
  t.regex(error.message, /ended with 3.*no such thing/s);
});

test('a guest that says nothing within the time answers no more', async (t) => {
  let quiet = false;
  const console = await played(t, {
    answer: (_line, socket) => {
      if (quiet) socket.write = () => true;
      return '';
    },
  });
  quiet = true;
  await t.throwsAsync(console.run('anything', 1), { instanceOf: ConsoleError, message: /within 1 s/ });
});

test('a guest that ended before its console came up answers no more', async (t) => {
  const console = new GuestConsole('/nonexistent/console.sock', () => false);
  await t.throwsAsync(console.login(), { instanceOf: ConsoleError, message: /ended before its console/ });
});

test('a console that closes while a command runs ends the wait at once', async (t) => {
  const console = await played(t, {
    answer: (line, socket) => {
      if (line === 'die') socket.destroy();
      return '';
    },
  });
  const started = Date.now();
  await t.throwsAsync(console.run('die', 60), { instanceOf: ConsoleError, message: /before the console closed/ });
  t.true(Date.now() - started < 10_000);
});

test('what a guest without a shell prints is awaited, and comes back up to where it was to end', async (t) => {
  const console = await played(t, { answer: (line) => (line === 'ls' ? '(xen/xvda) more\r\ngrub> ' : '') });
  console.type('ls');
  t.is(await console.waitFor(/grub> /, 10), '(xen/xvda) more\ngrub> ');
  await t.throwsAsync(console.waitFor(/nothing of the kind/, 1), { instanceOf: ConsoleError });
});
