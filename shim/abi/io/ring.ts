/** The header of every shared ring (public/io/ring.h). Slots follow it; what a slot holds is the device's own affair. */
import { bytes, struct, u32 } from '../struct.js';

export const Sring = struct(
  { c: 'struct netif_tx_sring', header: 'io/netif.h', abi: 'any', size: 76 },
  {
    req_prod: u32(0),
    req_event: u32(4),
    rsp_prod: u32(8),
    rsp_event: u32(12),
    /** First slot. The 48 bytes before it are the backend's to scribble in, and nobody does. */
    ring: bytes(64, 12),
  },
);

/** Slots in a ring of `pages` pages: the largest power of two that fits behind the header. */
export function ringSlots(pages: number, slotBytes: number): number {
  const fit = Math.floor((pages * 4096 - Sring.ring) / slotBytes);
  return 2 ** Math.floor(Math.log2(fit));
}
