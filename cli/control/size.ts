/** Sizes of disks as an operator writes them. Pure. */
import { OperatorError } from '../../shim/observe/errors.js';

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40, P: 2 ** 50 };

export interface DiskSize {
  readonly bytes: number;
  /** To be added to the size there is. */
  readonly relative: boolean;
}

/** `10G`, `+5G`, as `qemu-img resize` takes them: units are powers of 1024, none means bytes. @throws OperatorError USAGE */
export function parseDiskSize(text: string): DiskSize {
  const [, plus, digits, unit] = /^(\+?)(\d+(?:\.\d+)?)([KMGTP]?)$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(digits) * UNITS[(unit ?? '').toUpperCase()]!);
  if (digits === undefined || !Number.isSafeInteger(bytes)) {
    throw new OperatorError('USAGE', `'${text}' is no size`, 'use a number with K, M, G or T, and + before it to add');
  }
  return { bytes, relative: plus === '+' };
}

/** For people. */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]!}`;
}
