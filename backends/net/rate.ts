/** The `rate` key of a vif: how much a guest may transmit (spec C2, C3). */
import { OperatorError } from '../../shim/observe/errors.js';
export interface Rate {
  /** Bytes of credit added each period; Infinity = unlimited. */
  readonly bytes: number;
  /** Length of a period in µs. */
  readonly usec: number;
}

export const UNLIMITED: Rate = Object.freeze({ bytes: Infinity, usec: 0 });

const RATE = /^([0-9]{1,15}),([0-9]{1,15})$/;

/**
 * Parses "bytes,usec". Returns undefined for text that is no rate, which means unlimited with a warning. Zero bytes are
 * no rate either: Linux takes them and the interface never sends again.
 */
export function parseRate(text: string): Rate | undefined {
  const match = RATE.exec(text);
  if (match === null) return undefined;
  const bytes = Number(match[1]);
  if (bytes === 0) return undefined;
  return { bytes, usec: Number(match[2]) };
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1e3, M: 1e6, G: 1e9 };
/** xl's spelling: a number, a unit with a B for bytes or a b for bits, "/s", and how often credit comes. */
const SPELLED = /^([0-9]+)([KMG]?)([bB])\/s(?:@([0-9]+)(us|ms|s))?$/;
const MICROSECONDS: Readonly<Record<string, number>> = { us: 1, ms: 1e3, s: 1e6 };
/** xl's default. */
const DEFAULT_USEC = 50_000;

/**
 * A rate as an operator writes it, as in xl ("10Mb/s", "100KB/s@20ms"), or "bytes,usec"; returns the latter.
 * @throws OperatorError RATE_SYNTAX
 */
export function requireRate(text: string): string {
  const match = SPELLED.exec(text);
  let spelled = text;
  if (match !== null) {
    const [, number, unit, bits, every, time] = match;
    const usec = every === undefined ? DEFAULT_USEC : Number(every) * MICROSECONDS[time!]!;
    const bytes = (Number(number) * UNITS[unit!]!) / (bits === 'b' ? 8 : 1);
    spelled = `${Math.floor((bytes * usec) / 1e6)},${usec}`;
  }
  const rate = parseRate(spelled);
  if (rate === undefined || rate.usec < 1000) {
    throw new OperatorError('RATE_SYNTAX', `'${text}' is no rate`, 'write one such as 100Mb/s, 10MB/s@20ms, or BYTES,MICROSECONDS');
  }
  return spelled;
}
