/** Every hypercall there is a row for, by number. Numbers without a row are -ENOSYS: PV calls and Xen's own tools. */
import { consoleIo } from './console-io.js';
import { eventChannelOp } from './event-channel-op.js';
import { grantTableOp } from './grant-table-op.js';
import { hvmOp } from './hvm-op.js';
import { memoryOp } from './memory-op.js';
import { mmuextOp } from './mmuext-op.js';
import { multicall } from './multicall.js';
import { physdevOp } from './physdev-op.js';
import type { Hypercall } from './row.js';
import { schedOp } from './sched-op.js';
import { setTimerOp } from './set-timer-op.js';
import { vcpuOp } from './vcpu-op.js';
import { vmAssist } from './vm-assist.js';
import { xenVersion } from './xen-version.js';

export const hypercalls: readonly Hypercall[] = Object.freeze([
  memoryOp,
  multicall,
  setTimerOp,
  xenVersion,
  consoleIo,
  grantTableOp,
  vmAssist,
  vcpuOp,
  mmuextOp,
  schedOp,
  eventChannelOp,
  physdevOp,
  hvmOp,
]);

/** A line of the support matrix. */
export interface SupportedCall {
  readonly number: number;
  readonly hypercall: string;
  /** Absent for a call without sub-commands. */
  readonly operation?: string;
  readonly command?: number;
  /** Present when the answer is always this error: its name, and why. */
  readonly refused?: { readonly errno: number; readonly reason: string };
}

/** The table as data, for the README and `xenshim check`. */
export function supportMatrix(): SupportedCall[] {
  return hypercalls.flatMap(({ number, name, refused, operations }): SupportedCall[] =>
    operations === undefined
      ? [{ number, hypercall: name, ...(refused && { refused }) }]
      : operations.map((op) => ({
          number,
          hypercall: name,
          operation: op.name,
          command: op.command,
          ...(op.refused && { refused: op.refused }),
        })),
  );
}
