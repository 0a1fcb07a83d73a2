/** list, shutdown, reboot: what an operator asks of guests that run. */
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import { runDir, runningNames } from '../run-dir.js';
import { ask, reachable } from './client.js';

/** What `status` answers. */
export interface GuestStatus {
  readonly name: string;
  readonly domid: number;
  readonly pid: number;
  readonly qemuPid: number;
  readonly vcpus: number;
  /** Bytes. */
  readonly memory: number;
  readonly state: string;
}

/** How often --wait looks, ms. */
const POLL_MS = 100;

export async function list(argv: readonly string[]): Promise<number> {
  const { values } = parseOptions('list', {
    args: [...argv],
    options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  });
  if (values.help) {
    process.stdout.write('usage: xenshim list [--json]\n');
    return 0;
  }
  const guests: GuestStatus[] = [];
  for (const name of runningNames()) {
    if (!(await reachable(runDir(name).control))) continue;
    guests.push((await ask(name, 'status')) as GuestStatus);
  }
  if (values.json) {
    process.stdout.write(`${JSON.stringify(guests)}\n`);
    return 0;
  }
  const row = (cells: readonly unknown[]): string =>
    `${String(cells[0]).padEnd(24)} ${cells.slice(1).map((cell) => String(cell).padStart(10)).join('')}\n`;
  process.stdout.write(row(['Name', 'ID', 'Mem/MiB', 'VCPUs', 'State', 'QEMU']));
  for (const guest of guests) {
    process.stdout.write(row([
      guest.name, guest.domid, Math.round(guest.memory / 2 ** 20), guest.vcpus, guest.state, guest.qemuPid,
    ]));
  }
  return 0;
}

async function request(command: 'shutdown' | 'reboot', argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseOptions(command, {
    args: [...argv],
    allowPositionals: true,
    options: {
      wait: { type: 'boolean', short: 'w', default: false },
      timeout: { type: 'string', default: '120' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`usage: xenshim ${command} [--wait] [--timeout SECONDS] NAME\n`);
    return 0;
  }
  const [name] = positionals;
  if (name === undefined || positionals.length !== 1) {
    throw new OperatorError('USAGE', `${command} takes the name of one guest`, 'see `xenshim list`');
  }
  await ask(name, command);
  if (!values.wait) return 0;
  const until = Date.now() + Number(values.timeout) * 1000;
  while (await reachable(runDir(name).control)) {
    if (Date.now() > until) {
      throw new OperatorError('STILL_RUNNING', `'${name}' is still running after ${values.timeout} s`,
        'the guest does not react: stop its QEMU', 3);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return 0;
}

export const shutdown = (argv: readonly string[]): Promise<number> => request('shutdown', argv);
export const reboot = (argv: readonly string[]): Promise<number> => request('reboot', argv);
