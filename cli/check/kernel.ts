/** What depends on the kernel's release and cannot be asked for. */
import { release } from 'node:os';

/**
 * Whether taps take no request that is not to wait (RWF_NOWAIT), which network interfaces rely on: before Linux 6.4.
 * @param kernel as uname -r has it
 */
export function tapsWait(kernel = release()): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10));
  return major < 6 || (major === 6 && minor < 4);
}
