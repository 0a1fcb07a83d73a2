/**
 * The balloon: frames given back and asked for again, in extents of 2^order. The result is the number of extents done,
 * whatever stopped the work, never an errno; the bits above the command say how many were done before.
 */
import { MEMOP_EXTENT_SHIFT, MemoryOp, MemoryReservation32, MemoryReservation64 } from '../../abi/memory.js';
import type { Call } from '../call.js';
import { operation, type Fields } from '../row.js';

/** CONFIG_DOMU_MAX_ORDER: 2 MiB. */
const MAX_ORDER = 9;

type Reservation = Fields<'extent_start' | 'nr_extents' | 'extent_order' | 'mem_flags' | 'domid'>;

const startExtent = (call: Call): number => call.u32(0) >>> MEMOP_EXTENT_SHIFT;

const reservation = (
  command: number,
  name: string,
  extent: (call: Call, gfn: number, pages: number) => Iterable<boolean>,
) =>
  operation(
    command,
    name,
    { layouts: { x64: MemoryReservation64, x32: MemoryReservation32 }, direction: 'in', fault: startExtent },
    (call, view, at) => walk(call, view, at, extent),
  );

function* walk(
  call: Call,
  view: DataView,
  at: Reservation,
  extent: (call: Call, gfn: number, pages: number) => Iterable<boolean>,
): Generator<void, number, void> {
  const start = startExtent(call);
  const count = call.word(view, at.nr_extents);
  const order = view.getUint32(at.extent_order, true);
  if (call.self(view.getUint16(at.domid, true)) < 0 || order > MAX_ORDER) return start;
  // More extents than the continuation's bits can count are not even begun.
  if (count > 0xffff_ffff >>> MEMOP_EXTENT_SHIFT) return start;
  const list = call.handle(view, at.extent_start);
  const pages = 2 ** order;
  for (let done = start; done < count; done++) {
    const gfn = call.readWords(call.element(list, done, call.wordSize), 1)?.[0];
    if (gfn === undefined) return done;
    for (const ok of extent(call, gfn, pages)) {
      if (!ok) return done;
      yield;
    }
  }
  return Math.max(start, count);
}

export const decreaseReservation = reservation(
  MemoryOp.decrease_reservation,
  'decrease_reservation',
  function* (call, gfn, pages) {
    for (let i = 0; i < pages; i++) yield call.domain.physmap.decrease(gfn + i);
  },
);

export const populatePhysmap = reservation(
  MemoryOp.populate_physmap,
  'populate_physmap',
  function* (call, gfn, pages) {
    // All or nothing, or the guest could not know which frames of a failed extent it has.
    for (let i = 0; i < pages; i++) if (!call.domain.physmap.mayPopulate(gfn + i)) return yield false;
    for (let i = 0; i < pages; i++) yield call.domain.physmap.populate(gfn + i);
  },
);

/** Memory at no particular frame, for a PV guest to map by itself: a guest whose frames are translated cannot use it. */
export const increaseReservation = reservation(
  MemoryOp.increase_reservation,
  'increase_reservation',
  () => [false],
);
