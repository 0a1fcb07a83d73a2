/** Ways to answer. */
import type { WireError } from '../../abi/io/xs_wire.js';
import type { Answer } from '../connection.js';

/** The acknowledgement of requests that return nothing. */
const OK: Answer = Object.freeze({ payload: 'OK\0' });

export function acknowledge(refused: WireError | undefined): Answer | WireError {
  return refused ?? OK;
}

export function text(value: string): Answer {
  return { payload: `${value}\0` };
}
