/** XENMEM_memory_map: the memory the guest was started with, in INT 15h E820 format. */
import { Errno } from '../../abi/errno.js';
import { E820Entry, E820_RAM, E820_RESERVED, MemoryMap32, MemoryMap64, MemoryOp } from '../../abi/memory.js';
import { PAGE_SIZE, type RamRange } from '../../memory/guest-memory.js';
import { operation } from '../row.js';

interface Region {
  readonly addr: number;
  readonly size: number;
  readonly type: number;
}

/** The legacy video and ROM area: whatever RAM the machine model keeps behind it is not the guest's. */
const HOLE_START = 0xa_0000;
const HOLE_END = 0x10_0000;

export const memoryMap = operation(
  MemoryOp.memory_map,
  'memory_map',
  { layouts: { x64: MemoryMap64, x32: MemoryMap32 }, direction: 'inout' },
  (call, view, at) => {
    const regions = guestRegions(call.domain.bridge.ramRanges());
    const count = Math.min(view.getUint32(at.nr_entries, true), regions.length);
    const bytes = new DataView(new ArrayBuffer(count * E820Entry.SIZE));
    regions.slice(0, count).forEach((region, i) => {
      const entry = i * E820Entry.SIZE;
      bytes.setBigUint64(entry + E820Entry.addr, BigInt(region.addr), true);
      bytes.setBigUint64(entry + E820Entry.size, BigInt(region.size), true);
      bytes.setUint32(entry + E820Entry.type, region.type, true);
    });
    if (!call.space.write(call.handle(view, at.buffer), new Uint8Array(bytes.buffer))) return -Errno.EFAULT;
    view.setUint32(at.nr_entries, count, true);
    return 0;
  },
);

/** RAM, merged where ranges touch, with the legacy hole reserved. */
export function guestRegions(ranges: readonly RamRange[]): Region[] {
  const merged: { start: number; end: number }[] = [];
  for (const range of [...ranges].sort((a, b) => a.gfn - b.gfn)) {
    const start = range.gfn * PAGE_SIZE;
    const end = start + range.pages * PAGE_SIZE;
    const last = merged.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else merged.push({ start, end });
  }
  const ram = (start: number, end: number): Region[] =>
    start < end ? [{ addr: start, size: end - start, type: E820_RAM }] : [];
  const low = merged.flatMap(({ start, end }) => ram(start, Math.min(end, HOLE_START)));
  const high = merged.flatMap(({ start, end }) => ram(Math.max(start, HOLE_END), end));
  return [...low, { addr: HOLE_START, size: HOLE_END - HOLE_START, type: E820_RESERVED }, ...high];
}
