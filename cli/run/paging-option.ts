/** `--page-to FILE --max-resident SIZE`: how much of the guest may be in memory, and where the rest goes. */
import { OperatorError } from '../../shim/observe/errors.js';
import { memorySize } from '../qemu/option-values.js';

/** What rings, areas of the kernel and I/O under way keep there; with less a guest makes no progress. Bytes. */
export const LEAST_RESIDENT = 16 * 2 ** 20;

export interface PagingOption {
  readonly file: string;
  /** Bytes. */
  readonly maxResident: number;
}

export const PAGING_USAGE = `  --page-to FILE --max-resident SIZE
                          keep at most SIZE of the guest's RAM in memory (MiB unless it has a suffix), the rest in FILE
`;

/** For parseArgs. */
export const pagingOptions = { 'page-to': { type: 'string' }, 'max-resident': { type: 'string' } } as const;

/** @throws OperatorError */
export function parsePaging(values: { readonly 'page-to'?: string; readonly 'max-resident'?: string }): PagingOption | undefined {
  const { 'page-to': file, 'max-resident': size } = values;
  if (file === undefined && size === undefined) return undefined;
  if (file === undefined || file === '') {
    throw new OperatorError('USAGE', '--max-resident needs a file for the rest', 'add --page-to FILE');
  }
  if (size === undefined) throw new OperatorError('USAGE', '--page-to alone pages nothing', 'add --max-resident SIZE');
  return { file, maxResident: residentSize(size) };
}

/** @throws OperatorError for what is no size, or too small */
export function residentSize(text: string): number {
  const bytes = memorySize(text);
  if (bytes === undefined) {
    throw new OperatorError('USAGE', `'${text}' is no size`, 'write a number of MiB, or one with a suffix such as 2G');
  }
  if (bytes < LEAST_RESIDENT) {
    throw new OperatorError('MAX_RESIDENT', `${Math.floor(bytes / 2 ** 20)} MiB are too few to stay in memory`,
      `use at least ${LEAST_RESIDENT / 2 ** 20} MiB: rings and I/O under way keep their pages there`);
  }
  return bytes;
}
