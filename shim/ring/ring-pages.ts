/** Pages that grants gave, as a ring takes them. */
import type { RingPage } from './back-ring.js';

/** @param buffers whole pages, each at a multiple of 4 bytes of its ArrayBuffer (GrantMapping.buffers) */
export function ringPages(buffers: readonly Uint8Array[]): RingPage[] {
  return buffers.map(({ buffer, byteOffset }) => ({ i32: new Int32Array(buffer), base: byteOffset >>> 2 }));
}
