/** `xenshim mem-set`: how much of its memory a running guest is to use. */
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import { memorySize } from '../qemu/option-values.js';
import { ask } from './client.js';

const help = { type: 'boolean', default: false } as const;

const MEM_SET_USAGE = `usage: xenshim mem-set NAME SIZE

Sets memory/target, as xl does: the guest's balloon gives back what it has above SIZE, and takes what it has below. SIZE is
in MiB unless it has a suffix, such as 2G.
`;

export async function memSet(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseOptions('mem-set', { args: [...argv], allowPositionals: true, options: { help } });
  if (values.help) {
    process.stdout.write(MEM_SET_USAGE);
    return 0;
  }
  const [name, size] = positionals;
  const bytes = size === undefined ? undefined : memorySize(size);
  if (name === undefined || bytes === undefined || positionals.length !== 2) {
    throw new OperatorError('USAGE', 'mem-set takes the name of one guest and a size', 'see `xenshim mem-set --help`');
  }
  await ask(name, 'mem-set', { bytes });
  return 0;
}
