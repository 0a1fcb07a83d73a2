/** `xenshim block stat` and `xenshim block set`: what the disks of a running guest count, and what can be changed. */
import type { BlockReport, BlockStatistics } from '../../backends/block/statistics.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import { ask } from './client.js';

/** What `block-stat` answers, per disk. */
export interface BlockStat extends BlockReport {
  readonly vdev: string;
  /** Free bounce pages a queue keeps. */
  readonly maxBufferPages: number;
}

const SETTINGS = ['max-buffer-pages'] as const;

export async function stat(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseOptions('block', {
    args: [...argv],
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false } },
  });
  const [name, vdev] = positionals;
  if (name === undefined || positionals.length > 2) {
    throw new OperatorError('USAGE', 'block stat takes the name of a guest and perhaps a disk of it', 'see `xenshim block --help`');
  }
  const disks = (await ask(name, 'block-stat', vdev === undefined ? {} : { vdev })) as BlockStat[];
  process.stdout.write(values.json ? `${JSON.stringify(disks)}\n` : disks.map(table).join(''));
}

export async function set(argv: readonly string[]): Promise<void> {
  const { positionals } = parseOptions('block', {
    // A negative number is a value, not an option.
    args: argv.includes('--') ? [...argv] : ['--', ...argv],
    allowPositionals: true,
    options: {},
  });
  const [name, vdev, setting, value] = positionals;
  if (name === undefined || vdev === undefined || positionals.length !== 4) {
    throw new OperatorError('USAGE', 'block set takes a guest, a disk of it, a setting and its value', 'see `xenshim block --help`');
  }
  if (!SETTINGS.some((each) => each === setting)) {
    throw new OperatorError('USAGE', `a disk has no setting '${setting}'`, `use ${SETTINGS.join(', ')}`);
  }
  if (!/^-?\d{1,15}$/.test(value!)) {
    throw new OperatorError('USAGE', `${setting} cannot be '${value}'`, 'use a whole number');
  }
  await ask(name, 'block-set', { vdev, setting, value: Number(value) });
}

/** Named numbers on one line. */
const line = (title: string, numbers: Readonly<Record<string, number | string>>): string =>
  `  ${title.padEnd(10)}${Object.entries(numbers).map(([name, value]) => `${name} ${value}`).join('  ')}\n`;

const requests = ({ rd_req, wr_req, f_req, ds_req, oo_req, ring_full, errors }: BlockStatistics): Record<string, number> =>
  ({ rd: rd_req, wr: wr_req, f: f_req, ds: ds_req, oo: oo_req, 'ring-full': ring_full, errors });

function table({ vdev, total, latency, queues, maxBufferPages }: BlockStat): string {
  const lines = [
    `${vdev}\n`,
    line('requests', requests(total)),
    line('sectors', { rd: total.rd_sect, wr: total.wr_sect }),
    line('grants', {
      persistent: total.persistent,
      'in-use': total.persistent_in_use,
      purged: total.purged,
      overflow: total.grant_overflow,
      duplicate: total.duplicate_grefs,
    }),
    line('bounce', {
      requests: total.bounced,
      waits: total.bounce_waits,
      pages: total.buffer_pages,
      free: total.free_buffer_pages,
      kept: maxBufferPages,
    }),
  ];
  for (const [op, { count, p50, p99, max }] of Object.entries(latency)) {
    if (count > 0) lines.push(line(op, { count, 'p50 <=': `${p50} µs`, 'p99 <=': `${p99} µs`, 'max <=': `${max} µs` }));
  }
  if (queues.length > 1) for (const [queue, each] of queues.entries()) lines.push(line(`queue ${queue}`, requests(each)));
  return lines.join('');
}
