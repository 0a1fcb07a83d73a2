/** `xenshim console NAME`: this terminal on a guest's PV console, until Ctrl-] or the guest's end. */
import { connect } from 'node:net';
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import { runDir } from '../run-dir.js';

/** Ctrl-], as telnet and virsh have it. */
const ESCAPE = 0x1d;

export async function attach(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseOptions('console', {
    args: [...argv],
    allowPositionals: true,
    options: { help: { type: 'boolean', default: false } },
  });
  if (values.help) {
    process.stdout.write('usage: xenshim console NAME\n\nCtrl-] leaves the console.\n');
    return 0;
  }
  const [name] = positionals;
  if (name === undefined || positionals.length !== 1) {
    throw new OperatorError('USAGE', 'console takes the name of one guest', 'see `xenshim list`');
  }
  const { stdin, stdout } = process;
  const socket = connect(runDir(name).console);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', () =>
      reject(new OperatorError('NO_CONSOLE', `no console of a guest named '${name}'`, 'see `xenshim list`')));
  });
  const raw = stdin.isTTY;
  if (raw) stdin.setRawMode(true);
  socket.on('data', (chunk: Buffer) => stdout.write(chunk));
  stdin.on('data', (chunk: Buffer) => {
    const escape = raw ? chunk.indexOf(ESCAPE) : -1;
    socket.write(escape < 0 ? chunk : chunk.subarray(0, escape));
    if (escape >= 0) socket.end();
  });
  // Input from a pipe ends before its answers have come: only the guest or the terminal ends the session.
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  if (raw) stdin.setRawMode(false);
  stdin.pause();
  return 0;
}
