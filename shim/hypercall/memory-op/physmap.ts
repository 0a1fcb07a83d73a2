/** XENMEM_add_to_physmap and its kin: Xen's own pages placed where the guest wants to see them. */
import { Errno } from '../../abi/errno.js';
import {
  AddToPhysmap32,
  AddToPhysmap64,
  AddToPhysmapBatch32,
  AddToPhysmapBatch64,
  BatchError,
  MAPIDX_GRANT_TABLE_STATUS,
  MapSpace,
  MEMOP_EXTENT_SHIFT,
  MemoryOp,
  RemoveFromPhysmap32,
  RemoveFromPhysmap64,
} from '../../abi/memory.js';
import type { Call } from '../call.js';
import { operation, type Fields } from '../row.js';

function add(call: Call, space: number, idx: number, gfn: number): number {
  const { domain } = call;
  switch (space) {
    case MapSpace.shared_info:
      if (idx !== 0) return -Errno.EINVAL;
      domain.latch(call.long);
      return domain.physmap.addSharedInfo(gfn);
    case MapSpace.grant_table:
      // Without a version 2 table the bit makes a number that no frame has.
      if (idx >= MAPIDX_GRANT_TABLE_STATUS && domain.grantTable.version === 2) {
        return domain.physmap.addStatusFrame(idx - MAPIDX_GRANT_TABLE_STATUS, gfn);
      }
      return domain.physmap.addGrantFrame(idx, gfn);
    default:
      // Moving RAM about (gmfn, gmfn_range) is the firmware's need on real Xen, and here memory belongs to QEMU;
      // foreign frames are for the toolstack.
      return -Errno.ENOSYS;
  }
}

export const addToPhysmap = operation(
  MemoryOp.add_to_physmap,
  'add_to_physmap',
  { layouts: { x64: AddToPhysmap64, x32: AddToPhysmap32 }, direction: 'in' },
  (call, view, at) => {
    const refused = call.self(view.getUint16(at.domid, true));
    if (refused < 0) return refused;
    const space = view.getUint32(at.space, true);
    return add(call, space, call.word(view, at.idx), call.word(view, at.gpfn));
  },
);

export const addToPhysmapBatch = operation(
  MemoryOp.add_to_physmap_batch,
  'add_to_physmap_batch',
  { layouts: { x64: AddToPhysmapBatch64, x32: AddToPhysmapBatch32 }, direction: 'in' },
  batch,
);

function* batch(
  call: Call,
  view: DataView,
  at: Fields<'domid' | 'space' | 'size' | 'foreign_domid' | 'idxs' | 'gpfns' | 'errs'>,
): Generator<void, number, void> {
  const refused = call.self(view.getUint16(at.domid, true));
  if (refused < 0) return refused;
  const space = view.getUint16(at.space, true);
  const size = view.getUint16(at.size, true);
  const start = call.u32(0) >>> MEMOP_EXTENT_SHIFT;
  if (start > size) return -Errno.EILSEQ;
  const idxs = call.handle(view, at.idxs);
  const gpfns = call.handle(view, at.gpfns);
  const errs = call.handle(view, at.errs);
  const error = new DataView(new ArrayBuffer(BatchError.SIZE));
  for (let i = start; i < size; i++) {
    const idx = call.readWords(call.element(idxs, i, call.wordSize), 1);
    const gfn = call.readWords(call.element(gpfns, i, call.wordSize), 1);
    if (idx === undefined || gfn === undefined) return -Errno.EFAULT;
    error.setInt32(0, add(call, space, idx[0]!, gfn[0]!), true);
    const va = call.element(errs, i, BatchError.SIZE);
    if (!call.space.write(va, new Uint8Array(error.buffer))) return -Errno.EFAULT;
    yield;
  }
  return 0;
}

export const removeFromPhysmap = operation(
  MemoryOp.remove_from_physmap,
  'remove_from_physmap',
  { layouts: { x64: RemoveFromPhysmap64, x32: RemoveFromPhysmap32 }, direction: 'in' },
  (call, view, at) => {
    const refused = call.self(view.getUint16(at.domid, true));
    return refused < 0 ? refused : call.domain.physmap.remove(call.word(view, at.gpfn));
  },
);
