/** The grant-table operations an HVM guest may issue, and how a batch of them runs. */
import { Errno } from '../../abi/errno.js';
import {
  GnttabCopy32,
  GnttabCopy64,
  GnttabGetVersion,
  GnttabMapGrantRef,
  GnttabQuerySize,
  GnttabSetVersion,
  GnttabSetupTable32,
  GnttabSetupTable64,
  GnttabSwapGrantRef,
  GnttabUnmapGrantRef,
  Gnttabop,
} from '../../abi/grant-table.js';
import type { GrantCaller } from './caller.js';
import { copyGrant } from './copy.js';
import { mapGrantRef, unmapGrantRef } from './map.js';
import { querySize, setupTable } from './setup.js';
import { swapGrantRef } from './swap.js';
import { getVersion, setVersion } from './version.js';

/**
 * How the count argument is taken: `batch` = an array; `one` = anything but 1 is -EINVAL; `ignored` = always a single
 * structure.
 */
export type CountRule = 'batch' | 'one' | 'ignored';

export interface GrantTableOp {
  /** GNTTABOP_* */
  readonly cmd: number;
  readonly name: string;
  readonly count: CountRule;
  readonly struct64: { readonly SIZE: number };
  readonly struct32: { readonly SIZE: number };
  /**
   * Carries out the op on a private copy of its structure at `view[at]`, results (`status` …) written into it.
   * Returns 0 or a negative errno; the structure is to be copied out in either case.
   */
  readonly handle: (caller: GrantCaller, view: DataView, at: number, wide: boolean) => number;
}

const op = (
  cmd: keyof typeof Gnttabop,
  count: CountRule,
  handle: GrantTableOp['handle'],
  struct64: { readonly SIZE: number },
  struct32 = struct64,
): GrantTableOp => Object.freeze({ cmd: Gnttabop[cmd], name: cmd, count, struct64, struct32, handle });

/** Any other command is -ENOSYS for an HVM guest. */
export const GrantTableOps: readonly GrantTableOp[] = Object.freeze([
  op('map_grant_ref', 'batch', mapGrantRef, GnttabMapGrantRef),
  op('unmap_grant_ref', 'batch', unmapGrantRef, GnttabUnmapGrantRef),
  op('setup_table', 'one', setupTable, GnttabSetupTable64, GnttabSetupTable32),
  op('copy', 'batch', copyGrant, GnttabCopy64, GnttabCopy32),
  op('query_size', 'one', querySize, GnttabQuerySize),
  op('set_version', 'ignored', setVersion, GnttabSetVersion),
  op('get_version', 'ignored', getVersion, GnttabGetVersion),
  op('swap_grant_ref', 'batch', swapGrantRef, GnttabSwapGrantRef),
]);

/** A grant_table_op hypercall under way. */
export interface GrantTableCall {
  readonly cmd: number;
  /** Guest-virtual address of the structures. */
  readonly va: bigint;
  /** As the guest passed it: an unsigned 32-bit number. */
  readonly count: number;
  /** True for the 64-bit structures. */
  readonly wide: boolean;
  /** Structures done so far; advanced by `runGrantTableCall`. */
  next: number;
}

/** Structures handled in one go: what keeps a huge count from occupying the thread. */
const SLICE = 256;

/** Carries on with a call: its result, or undefined when it has more to do and wants to be called again. */
export function runGrantTableCall(caller: GrantCaller, call: GrantTableCall): number | undefined {
  const found = GrantTableOps.find((row) => row.cmd === call.cmd);
  if (found === undefined) return -Errno.ENOSYS;
  if (call.count > 0x7fff_ffff || (found.count === 'one' && call.count !== 1)) return -Errno.EINVAL;
  const count = found.count === 'ignored' ? 1 : call.count;
  const size = (call.wide ? found.struct64 : found.struct32).SIZE;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const end = Math.min(count, call.next + SLICE);
  for (; call.next < end; call.next++) {
    const va = BigInt.asUintN(call.wide ? 64 : 32, call.va + BigInt(call.next) * BigInt(size));
    if (!caller.copyIn(va, bytes)) return -Errno.EFAULT;
    const result = found.handle(caller, view, 0, call.wide);
    if (!caller.copyOut(va, bytes)) return -Errno.EFAULT;
    if (result !== 0) return result;
  }
  return end === count ? 0 : undefined;
}
