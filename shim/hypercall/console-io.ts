/** HYPERVISOR_console_io: Xen's own console, where early kernels write their first lines. They go to the log. */
import { Errno } from '../abi/errno.js';
import { HypercallNumber } from '../abi/xen.js';
import type { Call } from './call.js';
import { hypercall } from './row.js';

const CONSOLEIO_WRITE = 0;
const CONSOLEIO_READ = 1;

/** A guest's share of the log: characters per call, and per second of steady writing. */
const MAX_CHARS = 4096;
const CHARS_PER_SECOND = 16_384;

interface Budget {
  left: number;
  at: number;
}
const budgets = new WeakMap<object, Budget>();

export const consoleIo = hypercall({
  number: HypercallNumber.console_io,
  name: 'console_io',
  handle(call) {
    const command = call.u32(0);
    if (command === CONSOLEIO_READ) return -Errno.EPERM;
    if (command !== CONSOLEIO_WRITE) return -Errno.ENOSYS;
    return write(call, call.u32(1), call.pointer(2));
  },
});

function write(call: Call, count: number, va: bigint): number {
  const length = Math.min(count, MAX_CHARS, spend(call.domain));
  const bytes = new Uint8Array(length);
  if (!call.space.read(va, bytes)) return -Errno.EFAULT;
  take(call.domain, length);
  for (const line of printable(bytes).split('\n')) {
    if (line !== '') call.domain.log.info({ domid: call.domain.domid, line }, 'guest console_io');
  }
  return 0;
}

/** Characters the guest may write now. What it writes beyond that is dropped, as a full console ring would. */
function spend(domain: object): number {
  const now = performance.now();
  const budget = budgets.get(domain) ?? { left: CHARS_PER_SECOND, at: now };
  budget.left = Math.min(CHARS_PER_SECOND, budget.left + ((now - budget.at) / 1000) * CHARS_PER_SECOND);
  budget.at = now;
  budgets.set(domain, budget);
  return Math.floor(budget.left);
}

function take(domain: object, length: number): void {
  budgets.get(domain)!.left -= length;
}

/** Control characters of a guest must not reach a terminal. */
function printable(bytes: Uint8Array): string {
  const shown = (byte: number): boolean => byte === 10 || (byte >= 32 && byte < 127);
  return Array.from(bytes, (byte) => (shown(byte) ? String.fromCharCode(byte) : '.')).join('');
}
