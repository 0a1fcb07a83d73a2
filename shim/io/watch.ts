/** Descriptors on a thread's own event loop, for devices too slow to need a thread. */
import { native } from '../../kvm/native.js';

/** Calls back while the descriptor is readable. Returns the function that stops it; the descriptor stays open. */
export function watchReadable(fd: number, readable: () => void): () => void {
  const watcher = native.watchReadable(fd, readable);
  return () => {
    watcher.close();
  };
}
