/** `xenshim vcpu-set NAME COUNT`: tells a guest how many of its vCPUs to use. */
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import { ask } from './client.js';

const USAGE = `usage: xenshim vcpu-set NAME COUNT

Writes cpu/N/availability, as xl does: the first COUNT vCPUs are to be online, the others offline. Linux follows in a
PVH guest; in an HVM guest its CPUs are the machine's, and are switched in /sys/devices/system/cpu.
`;

export async function vcpuSet(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseOptions('vcpu-set', {
    args: [...argv],
    allowPositionals: true,
    options: { help: { type: 'boolean', default: false } },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [name, count] = positionals;
  if (name === undefined || count === undefined || positionals.length !== 2 || !/^\d{1,4}$/.test(count)) {
    throw new OperatorError('USAGE', 'vcpu-set takes the name of one guest and a number of vCPUs', 'see `xenshim list`');
  }
  await ask(name, 'vcpu-set', { count: Number(count) });
  return 0;
}
