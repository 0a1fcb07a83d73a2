/** The `rate` key of a vif: how much a guest may transmit (spec C2, C3). */

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
