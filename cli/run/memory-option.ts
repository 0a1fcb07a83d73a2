/**
 * `--maxmem SIZE --mem SIZE`, as xl has maxmem= and memory=: the RAM the machine has, and how much of it the guest is to use
 * from the start. What it never touches takes no memory of the host's, so the rest is populated on demand.
 */
import { OperatorError } from '../../shim/observe/errors.js';
import { guestSize, givesMemory } from '../qemu/command-line.js';
import { memorySize } from '../qemu/option-values.js';

/** As the balloon of a running guest (`xenshim mem-set`): with less it kills its own processes. */
const LEAST = 32 * 2 ** 20;
/** QEMU's -m is in whole MiB here. */
const MIB = 2 ** 20;

/** Bytes. */
export interface MemoryOption {
  readonly mem?: number;
  readonly maxmem?: number;
}

export const MEMORY_USAGE = `  --mem SIZE              how much of its RAM the guest is to use from the start; its balloon gives back the rest
  --maxmem SIZE           RAM of the machine, instead of QEMU's -m (default: what -m or else --mem says)
                          (sizes are in MiB unless they have a suffix)
`;

/** For parseArgs. */
export const memoryOptions = { mem: { type: 'string' }, maxmem: { type: 'string' } } as const;

/** @throws OperatorError */
export function parseMemory(values: { readonly mem?: string; readonly maxmem?: string }): MemoryOption {
  const size = (option: 'mem' | 'maxmem'): MemoryOption => {
    const text = values[option];
    if (text === undefined) return {};
    const bytes = memorySize(text);
    if (bytes === undefined || bytes < LEAST || bytes % MIB !== 0) {
      throw new OperatorError('MEMORY_SIZE', `--${option} cannot be '${text}'`, 'write a whole number of MiB from 32 on, or one with a suffix such as 2G');
    }
    return { [option]: bytes };
  };
  const option = { ...size('mem'), ...size('maxmem') };
  if ((option.mem ?? 0) > (option.maxmem ?? Infinity)) {
    throw new OperatorError('MEMORY_SIZE', '--mem is more than --maxmem', 'make --maxmem as large as --mem at least');
  }
  return option;
}

/**
 * What QEMU's command needs besides, and what the guest is to use of its RAM.
 * @returns `target` in bytes; undefined: all of it
 * @throws OperatorError when the two do not fit together
 */
export function placeMemory({ mem, maxmem }: MemoryOption, qemuArgs: readonly string[]): { args: string[]; target?: number } {
  const target = mem === undefined ? {} : { target: mem };
  if (!givesMemory(qemuArgs)) {
    const size = maxmem ?? mem;
    return { args: size === undefined ? [] : ['-m', `${size / MIB}M`], ...target };
  }
  const { memory } = guestSize(qemuArgs);
  if (maxmem !== undefined && maxmem !== memory) {
    throw new OperatorError('MEMORY_SIZE', `--maxmem says ${maxmem / MIB} MiB, QEMU's -m ${memory / MIB}`, 'leave out one of them');
  }
  if (mem !== undefined && mem > memory) {
    throw new OperatorError('MEMORY_SIZE', `--mem is more than the ${memory / MIB} MiB of QEMU's -m`, 'make -m as large as --mem at least');
  }
  return { args: [], ...target };
}
