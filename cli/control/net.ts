/** `xenshim net VERB NAME …`: a guest's network interfaces while it runs. */
import type { NetBackendStats } from '../../backends/net/driver.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import type { NetStatus } from '../run/net-devices.js';
import { parseVif, VIF_LINKS, VIF_OPTIONS } from '../run/vif-option.js';
import { ask } from './client.js';

interface Verb {
  /** After `xenshim net VERB`. */
  readonly usage: string;
  run(argv: readonly string[]): Promise<void>;
}

const verbs: Readonly<Record<string, Verb>> = {
  list: { usage: '[--json] NAME', run: list },
  attach: { usage: 'NAME LINK[,OPTION]…', run: attach },
  detach: { usage: '[--force] NAME INDEX', run: detach },
  set: { usage: 'NAME INDEX [mac=MAC] [mtu=BYTES] [rate=RATE|unlimited] [link=up|down]', run: set },
  stat: { usage: '[--json] NAME [INDEX]', run: stat },
};

const usage = (): string => `usage: ${Object.entries(verbs).map(([name, verb]) => `xenshim net ${name} ${verb.usage}`).join('\n       ')}

LINK is one of ${VIF_LINKS}.
OPTION is one of ${VIF_OPTIONS}.
RATE limits what the guest sends, as in xl: 100Mb/s, 10MB/s@20ms. A guest reads mac and mtu when it connects.
`;

const seeHelp = 'see `xenshim net --help`';

export async function net(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === '--help' || name === '-h' || rest.includes('--help')) {
    process.stdout.write(usage());
    return 0;
  }
  const verb = name !== undefined && Object.hasOwn(verbs, name) ? verbs[name] : undefined;
  if (verb === undefined) throw new OperatorError('USAGE', `net takes one of ${Object.keys(verbs).join(', ')}`, seeHelp);
  await verb.run(rest);
  return 0;
}

function parsed(argv: readonly string[], verb: string, min: number, max: number): { flags: ReadonlySet<string>; words: string[] } {
  const { values, positionals } = parseOptions('net', {
    args: [...argv],
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false }, force: { type: 'boolean', short: 'f', default: false } },
  });
  if (positionals.length < min || positionals.length > max) {
    throw new OperatorError('USAGE', `net ${verb} takes ${verbs[verb]!.usage}`, seeHelp);
  }
  return { flags: new Set(Object.entries(values).filter(([, on]) => on).map(([name]) => name)), words: positionals };
}

function indexOf(word: string): number {
  if (/^[0-9]{1,4}$/.test(word)) return Number(word);
  throw new OperatorError('USAGE', `'${word}' is no index of an interface`, 'use a number, as `xenshim net list` has it');
}

async function list(argv: readonly string[]): Promise<void> {
  const { flags, words } = parsed(argv, 'list', 1, 1);
  const vifs = (await ask(words[0]!, 'net-list')) as NetStatus[];
  if (flags.has('json')) {
    process.stdout.write(`${JSON.stringify(vifs)}\n`);
    return;
  }
  const row = (cells: readonly unknown[]): string =>
    `${[5, 18, 6, 18, 6, 13].map((width, i) => String(cells[i]).padEnd(width)).join(' ')} ${String(cells[6])}\n`;
  process.stdout.write(row(['Index', 'MAC', 'MTU', 'Rate', 'Link', 'State', 'Host']));
  for (const { index, mac, mtu, rate, up, state, link, interface: host } of vifs) {
    const where = host === '' || link.endsWith(`=${host}`) ? link : `${link} (${host})`;
    process.stdout.write(row([index, mac, mtu === '' ? '-' : mtu, rate === '' ? 'unlimited' : rate, up ? 'up' : 'down', state, where]));
  }
}

async function attach(argv: readonly string[]): Promise<void> {
  const [name, vif] = parsed(argv, 'attach', 2, 2).words;
  // Told here as well, so that a slip of the pen needs no guest.
  parseVif(vif!);
  process.stdout.write(`${String(await ask(name!, 'net-attach', { vif, cwd: process.cwd() }))}\n`);
}

async function detach(argv: readonly string[]): Promise<void> {
  const { flags, words } = parsed(argv, 'detach', 2, 2);
  await ask(words[0]!, 'net-detach', { index: indexOf(words[1]!), force: flags.has('force') });
}

async function set(argv: readonly string[]): Promise<void> {
  const [name, index, ...changes] = parsed(argv, 'set', 3, 6).words;
  const change: Record<string, unknown> = {};
  for (const word of changes) {
    const [, key, value = ''] = /^(\w+)=(.+)$/.exec(word) ?? [];
    if (key === 'mac') change['mac'] = value;
    else if (key === 'mtu') change['mtu'] = Number(value);
    else if (key === 'rate') change['rate'] = value === 'unlimited' ? '' : value;
    else if (key === 'link' && (value === 'up' || value === 'down')) change['up'] = value === 'up';
    else throw new OperatorError('USAGE', `'${word}' cannot be set`, seeHelp);
  }
  await ask(name!, 'net-set', { ...change, index: indexOf(index!) });
}

async function stat(argv: readonly string[]): Promise<void> {
  const { flags, words } = parsed(argv, 'stat', 1, 2);
  const [name, index] = words;
  const args = index === undefined ? {} : { index: indexOf(index) };
  const all = (await ask(name!, 'net-stat', args)) as { index: number; stats: NetBackendStats }[];
  if (flags.has('json')) {
    process.stdout.write(`${JSON.stringify(all)}\n`);
    return;
  }
  for (const { index: vif, stats } of all) {
    process.stdout.write(`interface ${vif}: ${stats.connected ? 'connected' : 'not connected'}, carrier ${stats.carrier ? 'on' : 'off'}\n`);
    stats.queues.forEach((queue, i) => {
      // A counter that never moved says nothing.
      const moved = Object.entries(queue).filter(([counter, value]) => value > 0 || /^[rt]x(Packets|Bytes)$/.test(counter));
      process.stdout.write(`  queue ${i}: ${moved.map(([counter, value]) => `${counter} ${value}`).join(', ')}\n`);
    });
  }
}
