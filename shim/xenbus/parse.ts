/**
 * Reading what a frontend wrote. The text is the guest's: only the canonical decimal form counts, so that two readers
 * of one node can never disagree about it (a C `sscanf` takes "4\0junk", " 4" and "0x4" for numbers).
 */
import { Errno } from '../abi/errno.js';
import { XenbusState } from '../abi/io/xenbus.js';
import { XenError } from '../observe/errors.js';

/** A node that exists but holds no state number. Distinct from Unknown, which means the node is not there. */
export const INVALID_STATE = -1;

/** A state as found in the store: a known one, some other number, or INVALID_STATE. */
export type FoundState = number;

const DECIMAL = /^(?:0|[1-9][0-9]{0,15})$/;

/** A canonical non-negative decimal of at most `max`, or undefined. */
export function parseDecimal(text: string, max: number): number | undefined {
  if (text.length > 16 || !DECIMAL.test(text)) return undefined;
  const value = Number(text);
  return value <= max ? value : undefined;
}

/** The value of a `state` node. */
export function parseState(text: string | undefined): FoundState {
  if (text === undefined) return XenbusState.Unknown;
  return parseDecimal(text, 0x7fffffff) ?? INVALID_STATE;
}

/**
 * A numeric key of a frontend.
 * @param fallback what an absent key means; without it the key is required
 * @throws XenError EINVAL when the key is missing, not a canonical decimal, or above `max`
 */
export function requireDecimal(key: string, text: string | undefined, max: number, fallback?: number): number {
  if (text === undefined) {
    if (fallback !== undefined) return fallback;
    throw new XenError(Errno.EINVAL, `reading ${key}`);
  }
  const value = parseDecimal(text, max);
  if (value === undefined) throw new XenError(Errno.EINVAL, `reading ${key}: not a number from 0 to ${max}`);
  return value;
}
