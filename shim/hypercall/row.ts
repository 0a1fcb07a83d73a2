/**
 * Rows of the hypercall table. A row names a call, the layout of its argument and the handler; only the dispatcher
 * copies arguments in and out. A row that is refused on purpose says why: the support matrix is printed from it.
 */
import type { Errno } from '../abi/errno.js';
import type { Call } from './call.js';

/** The vCPU is answered later, or never: whoever carries the call on calls `bridge.complete`. */
export const WAIT = Symbol('the vCPU waits');

/**
 * A result: 0 or more, or a negative errno. A generator is a long operation in slices, which yields where others may
 * run, and returns the result.
 */
export type Answer = number | typeof WAIT | Generator<void, number | typeof WAIT, void>;

/** Offsets of the members of an argument structure, the same names in both widths. */
export type Fields<K extends string> = Readonly<Record<K, number>> & { readonly SIZE: number };

/** `inout` and `out` structures are copied back when the result is not negative. */
export type Direction = 'in' | 'out' | 'inout';

export interface Argument {
  readonly x64: { readonly SIZE: number };
  readonly x32: { readonly SIZE: number };
  readonly direction: Direction;
  /** Result when the structure cannot be copied in; -EFAULT unless given. */
  readonly fault?: (call: Call) => number;
}

export interface Refusal {
  readonly errno: (typeof Errno)[keyof typeof Errno];
  readonly reason: string;
}

export interface Operation {
  readonly command: number;
  readonly name: string;
  readonly argument?: Argument;
  readonly refused?: Refusal;
  /** @param argument the private copy of the structure, or an empty view */
  readonly handle?: (call: Call, argument: DataView, fields: Fields<string>) => Answer;
}

export interface Hypercall {
  readonly number: number;
  readonly name: string;
  readonly refused?: Refusal;
  /** A call without sub-commands. */
  readonly handle?: (call: Call) => Answer;
  /** A call with them: the command is the low bits of the first argument. */
  readonly operations?: readonly Operation[];
  /** Bits of the command; the rest belong to the handler. Default all 32. */
  readonly commandMask?: number;
  /** Which argument points to the structure; default 1. */
  readonly pointer?: number;
  /** Checked before the command is even looked up: 0 or a negative errno. */
  readonly check?: (call: Call) => number;
}

type Handle<K extends string> = (call: Call, argument: DataView, fields: Fields<K>) => Answer;

/** An operation with a structure of one layout, or of one per width. */
export function operation<K extends string>(
  command: number,
  name: string,
  argument: Pick<Argument, 'direction' | 'fault'> &
    (
      | { readonly layout: Fields<K> }
      | { readonly layouts: { readonly x64: Fields<K>; readonly x32: Fields<K> } }
    ),
  handle: Handle<K>,
): Operation {
  const { direction, fault } = argument;
  const widths = 'layouts' in argument ? argument.layouts : { x64: argument.layout, x32: argument.layout };
  return Object.freeze({
    command,
    name,
    argument: Object.freeze({ ...widths, direction, ...(fault && { fault }) }),
    handle: handle as Handle<string>,
  });
}

/** An operation without a structure. */
export function bare(command: number, name: string, handle: (call: Call) => Answer): Operation {
  return Object.freeze({ command, name, handle });
}

/** An operation not offered, and why. */
export function refuse(command: number, name: string, errno: Refusal['errno'], reason: string): Operation {
  return Object.freeze({ command, name, refused: Object.freeze({ errno, reason }) });
}

export function hypercall(row: Hypercall): Hypercall {
  return Object.freeze({ ...row, ...(row.operations && { operations: Object.freeze(row.operations) }) });
}
