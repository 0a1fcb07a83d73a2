/** HYPERVISOR_multicall: several calls in one exit, each with its own result. */
import { Errno } from '../abi/errno.js';
import { HypercallNumber, MulticallEntry32, MulticallEntry64 } from '../abi/xen.js';
import type { Call } from './call.js';
import { hypercall, WAIT } from './row.js';

export const multicall = hypercall({ number: HypercallNumber.multicall, name: 'multicall', handle: run });

function* run(call: Call): Generator<void, number | typeof WAIT, void> {
  // An entry that is itself a multicall.
  if (call.nested === undefined) return -Errno.EINVAL;
  const list = call.pointer(0);
  const count = call.u32(1);
  const layout = call.long ? MulticallEntry64 : MulticallEntry32;
  const entry = new Uint8Array(layout.SIZE);
  const view = new DataView(entry.buffer);
  const result = new Uint8Array(call.wordSize);
  for (let i = 0; i < count; i++) {
    const va = call.element(list, i, layout.SIZE);
    if (!call.space.read(va, entry)) return -Errno.EFAULT;
    const args = new BigUint64Array(6);
    for (let arg = 0; arg < 6; arg++) args[arg] = call.handle(view, layout.args + arg * call.wordSize);
    const answer = yield* call.nested(call.word(view, layout.op), args);
    // The domain has shut down, or the vCPU waits for something else: the rest of the list is not for now.
    if (answer === WAIT) return WAIT;
    const bytes = new DataView(result.buffer);
    if (call.long) bytes.setBigInt64(0, BigInt(answer), true);
    else bytes.setInt32(0, answer | 0, true);
    if (!call.space.write(call.element(va, layout.result, 1), result)) return -Errno.EFAULT;
    yield;
  }
  return 0;
}
