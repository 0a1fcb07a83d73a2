/** `xenshim block VERB NAME …`: a guest's disks while it runs. */
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import type { BlockStatus } from '../run/block-devices.js';
import { DISK_OPTIONS, parseDisk, parseVdev } from '../run/disk-option.js';
import { set, stat } from './block-stat.js';
import { ask } from './client.js';
import { formatSize, parseDiskSize } from './size.js';

interface Verb {
  /** After `xenshim block VERB`. */
  readonly usage: string;
  run(argv: readonly string[]): Promise<void>;
}

const verbs: Readonly<Record<string, Verb>> = {
  list: { usage: '[--json] NAME', run: list },
  attach: { usage: 'NAME FILE[,OPTION]… [--as VDEV]', run: attach },
  detach: { usage: '[--force] NAME VDEV', run: detach },
  resize: { usage: '[--shrink] NAME VDEV SIZE | NAME VDEV --refresh', run: resize },
  stat: { usage: '[--json] NAME [VDEV]', run: stat },
  set: { usage: 'NAME VDEV max-buffer-pages N', run: set },
};

const usage = (): string => `usage: ${Object.entries(verbs).map(([name, verb]) => `xenshim block ${name} ${verb.usage}`).join('\n       ')}

OPTION is as in --disk of \`xenshim run\`: ${DISK_OPTIONS}.
SIZE is a number with K, M, G or T, to be added if it begins with +. --refresh takes the size the device has by now.
max-buffer-pages is how many free bounce pages each queue keeps, 0 to 2147483648.
`;

export async function block(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === '--help' || name === '-h' || rest.includes('--help')) {
    process.stdout.write(usage());
    return 0;
  }
  const verb = name !== undefined && Object.hasOwn(verbs, name) ? verbs[name] : undefined;
  if (verb === undefined) {
    throw new OperatorError('USAGE', `block takes one of ${Object.keys(verbs).join(', ')}`, 'see `xenshim block --help`');
  }
  await verb.run(rest);
  return 0;
}

/** The positional arguments, of which there must be as many as names. */
function exactly(verb: string, positionals: readonly string[], ...names: readonly string[]): string[] {
  if (positionals.length !== names.length) {
    throw new OperatorError('USAGE', `block ${verb} takes ${names.join(', ')}`, 'see `xenshim block --help`');
  }
  return [...positionals];
}

async function list(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseOptions('block', {
    args: [...argv],
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false } },
  });
  const [name] = exactly('list', positionals, 'the name of a guest');
  const disks = (await ask(name!, 'block-list')) as BlockStatus[];
  if (values.json) {
    process.stdout.write(`${JSON.stringify(disks)}\n`);
    return;
  }
  const row = (vdev: string, size: string, mode: string, state: string, file: string): string =>
    `${vdev.padEnd(8)} ${size.padStart(10)}  ${mode.padEnd(5)} ${state.padEnd(13)} ${file}\n`;
  process.stdout.write(row('Vdev', 'Size', 'Mode', 'State', 'File'));
  for (const { vdev, size, mode, type, state, file } of disks) {
    process.stdout.write(row(vdev, formatSize(size), type === 'cdrom' ? 'cdrom' : mode, state, file));
  }
}

async function attach(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseOptions('block', {
    args: [...argv],
    allowPositionals: true,
    options: { as: { type: 'string' } },
  });
  const [name, disk] = exactly('attach', positionals, 'the name of a guest', 'a disk');
  // Told here as well, so that a slip of the pen needs no guest.
  parseDisk(disk!);
  if (values.as !== undefined) parseVdev(values.as);
  const as = values.as === undefined ? {} : { as: values.as };
  process.stdout.write(`${String(await ask(name!, 'block-attach', { disk, cwd: process.cwd(), ...as }))}\n`);
}

async function detach(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseOptions('block', {
    args: [...argv],
    allowPositionals: true,
    options: { force: { type: 'boolean', short: 'f', default: false } },
  });
  const [name, vdev] = exactly('detach', positionals, 'the name of a guest', 'a disk of it');
  await ask(name!, 'block-detach', { vdev, force: values.force });
}

async function resize(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseOptions('block', {
    args: [...argv],
    allowPositionals: true,
    options: { refresh: { type: 'boolean', default: false }, shrink: { type: 'boolean', default: false } },
  });
  const names = ['the name of a guest', 'a disk of it', ...(values.refresh ? [] : ['a size'])];
  const [name, vdev, size] = exactly('resize', positionals, ...names);
  const wanted = size === undefined ? {} : parseDiskSize(size);
  const bytes = await ask(name!, 'block-resize', { vdev, shrink: values.shrink, ...wanted });
  process.stdout.write(`${vdev!} has ${formatSize(Number(bytes))}\n`);
}
