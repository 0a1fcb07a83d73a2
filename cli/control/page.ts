/** `xenshim page VERB NAME …`: a guest whose memory is paged. */
import { OperatorError } from '../../shim/observe/errors.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import { parseOptions } from '../arguments.js';
import { residentSize } from '../run/paging-option.js';
import type { PageReport } from '../run/page-control.js';
import { ask } from './client.js';

const USAGE = `usage: xenshim page stat [--json] NAME
       xenshim page out NAME FRAME [COUNT]
       xenshim page in NAME FRAME [COUNT]
       xenshim page limit NAME SIZE

stat prints how much of the guest is in memory, and what the pager has counted. out and in move frames (numbers of pages of
4096 bytes, 0x for hexadecimal) to the page file and back; what is pinned by I/O stays. limit sets how much may be in
memory: MiB unless SIZE has a suffix, such as 2G.
`;

const seeHelp = 'see `xenshim page --help`';

export async function page(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseOptions('page', {
    args: [...argv],
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h', default: false } },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [verb, name, first, second] = positionals;
  const between = (min: number, max: number): string => {
    if (name !== undefined && positionals.length >= min && positionals.length <= max) return name;
    throw new OperatorError('USAGE', `page ${verb!} has too few or too many words`, seeHelp);
  };
  switch (verb) {
    case 'stat': {
      const report = (await ask(between(2, 2), 'page-stat')) as PageReport;
      process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : table(report));
      return 0;
    }
    case 'out':
    case 'in': {
      const done = await ask(between(3, 4), `page-${verb}`, { gfn: number(first!), count: number(second ?? '1') });
      process.stdout.write(`${String(done)} ${verb === 'out' ? 'frames are out' : 'frames are in'}\n`);
      return 0;
    }
    case 'limit':
      await ask(between(3, 3), 'page-limit', { bytes: residentSize(first!) });
      return 0;
    default:
      throw new OperatorError('USAGE', 'page takes one of stat, out, in, limit', seeHelp);
  }
}

function number(word: string): number {
  if (/^(0x[0-9a-f]{1,12}|[0-9]{1,15})$/i.test(word)) return Number(word);
  throw new OperatorError('USAGE', `'${word}' is no number of a frame`, seeHelp);
}

function table(report: PageReport): string {
  const mib = (pages: number): string => `${((pages * PAGE_SIZE) / 2 ** 20).toFixed(1)} MiB`;
  const [, , out = 0, coming = 0, unused = 0] = report.states;
  const line = (title: string, text: string): string => `${title.padEnd(12)}${text}\n`;
  return [
    line('in memory', `${mib(report.resident)} of at most ${mib(report.maxResident)}; ${mib(report.pinned)} pinned`),
    line('elsewhere', `${mib(out + coming)} in the page file, ${mib(unused)} unused, ${mib(report.released)} given back`),
    line('out', `${report.evicted} frames; ${report.cancelled} times a frame was wanted meanwhile`),
    line('in', `${report.pagedIn} frames, slowest ${report.slowest} µs; ${report.zeroed} of zeros`),
    line('asked', `${report.faults} times by vCPUs and QEMU, ${report.requests} by backends, ${report.refused} with the queue full`),
    line('grants', `${report.eagain} times told to come again`),
    line('waiting', `${report.waiting} requests, the oldest ${report.oldestWait} ms`),
    line('crowded', `${report.crowded} times over the limit, because all that was there was pinned`),
  ].join('');
}
