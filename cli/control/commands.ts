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
    try {
      guests.push((await ask(name, 'status')) as GuestStatus);
    } catch (error) {
      // It may have ended since.
      if (await reachable(runDir(name).control)) throw error;
    }
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

const help = { type: 'boolean', default: false } as const;

function oneName(command: string, positionals: readonly string[]): string {
  const [name] = positionals;
  if (name === undefined || positionals.length !== 1) {
    throw new OperatorError('USAGE', `${command} takes the name of one guest`, 'see `xenshim list`');
  }
  return name;
}

export async function shutdown(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseOptions('shutdown', {
    args: [...argv],
    allowPositionals: true,
    options: { wait: { type: 'boolean', short: 'w', default: false }, timeout: { type: 'string', default: '120' }, help },
  });
  if (values.help) {
    process.stdout.write('usage: xenshim shutdown [--wait] [--timeout SECONDS] NAME\n');
    return 0;
  }
  const name = oneName('shutdown', positionals);
  if (!/^\d+(\.\d+)?$/.test(values.timeout)) {
    throw new OperatorError('USAGE', `--timeout cannot be '${values.timeout}'`, 'use a number of seconds');
  }
  await ask(name, 'shutdown');
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

/** There is no waiting here: a guest that reboots stays where it is. */
export async function reboot(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseOptions('reboot', { args: [...argv], allowPositionals: true, options: { help } });
  if (values.help) {
    process.stdout.write('usage: xenshim reboot NAME\n');
    return 0;
  }
  await ask(oneName('reboot', positionals), 'reboot');
  return 0;
}
