/** The kernel's refusals as a guest sees them. */
import { KvmError } from '../../kvm/bridge.js';
import { Errno } from '../abi/errno.js';

/** Runs a bridge request: 0, or `refused` (default -EINVAL) when the kernel would not. Anything else thrown passes. */
export function kvmResult(request: () => void, refused: number = -Errno.EINVAL): number {
  try {
    request();
    return 0;
  } catch (error) {
    if (error instanceof KvmError) return refused;
    throw error;
  }
}
