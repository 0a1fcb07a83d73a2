/** The balloon as a guest works it, and what becomes of the host's memory and of I/O under way. */
import test, { type ExecutionContext } from 'ava';
import { fstatSync } from 'node:fs';
import { MemoryOp } from '../../../shim/abi/memory.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { attachGuest, type AttachedGuest } from '../../../shim/memory/attach.js';
import { PAGE_SIZE, type RamWindow } from '../../../shim/memory/guest-memory.js';
import { Guest } from '../../helpers/guest.js';

const SELF = 0x7ff0;

/** Issues a call for single frames; returns how many it did. */
function reservation(guest: Guest, command: number, gfns: readonly number[]): Promise<number> {
  const list = 16 * PAGE_SIZE;
  gfns.forEach((gfn, i) => guest.at(list + i * 8).setBigUint64(0, BigInt(gfn), true));
  const argument = guest.argument([[0, 8, list], [8, 8, gfns.length], [16, 4, 0], [24, 2, SELF]]);
  return guest.issue(HypercallNumber.memory_op, [command, argument]);
}

const hostPages = (guest: Guest): number => (fstatSync(guest.bridge.ramRanges()[0]!.fd).blocks * 512) / PAGE_SIZE;

/** A guest that has touched what these tests' calls use. */
async function ready(t: ExecutionContext): Promise<Guest> {
  const guest = new Guest().endWith(t);
  await reservation(guest, MemoryOp.decrease_reservation, [1023]);
  await reservation(guest, MemoryOp.populate_physmap, [1023]);
  return guest;
}

/** A backend's view of the guest: as in another thread, with everything of its own. */
function backend(t: ExecutionContext, guest: Guest): AttachedGuest {
  const attached = attachGuest(guest.domain.handles());
  t.teardown(() => attached.detach());
  return attached;
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

test('memory that the balloon gives back is the host’s again, and comes back zeroed', async (t) => {
  const guest = await ready(t);
  const frames = range(500, 400);
  for (const gfn of frames) guest.at(gfn * PAGE_SIZE).setUint32(0, gfn, true);
  const before = hostPages(guest);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, frames), 400);
  t.is(before - hostPages(guest), 400);
  t.is(guest.domain.p2m.currentPages, 624);
  t.is(await reservation(guest, MemoryOp.populate_physmap, frames), 400);
  t.is(before - hostPages(guest), 400, 'only what is touched takes memory');
  for (const gfn of frames) t.is(guest.at(gfn * PAGE_SIZE).getUint32(0, true), 0);
});

test('E23: a page mapped before the balloon ever moved keeps its memory until it is unmapped', async (t) => {
  const guest = new Guest().endWith(t);
  const { grants } = backend(t, guest);
  guest.domain.grantTable.seedEntry(10, 0, 700);
  guest.domain.grantTable.seedEntry(11, 0, 700);
  let page: { window: RamWindow; offset: number } | undefined;
  const handle = grants.mapOne(10, false, 0, (_context, window, offset) => (page = { window, offset }));
  guest.at(700 * PAGE_SIZE).setUint32(0, 0x1234, true);
  guest.at(701 * PAGE_SIZE).setUint32(0, 0x1234, true);
  // What the call itself touches.
  for (const gpa of [8, 16]) guest.at(gpa * PAGE_SIZE).setUint32(0, 1, true);
  const before = hostPages(guest);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [700, 701]), 2);
  t.is(guest.domain.p2m.kind(700), 'hole');
  t.is(before - hostPages(guest), 1, 'the page under I/O stays');
  t.is(page!.window.view.getUint32(page!.offset, true), 0x1234);
  t.is(grants.mapOne(11, true, 0, () => {}), -9, 'it can be granted no more');
  t.is(await reservation(guest, MemoryOp.populate_physmap, [701, 700]), 1, 'and not be had again yet');
  t.is(page!.window.view.getUint32(page!.offset, true), 0x1234);
  t.is(grants.unmapOne(handle), 0);
  t.is(before - hostPages(guest), 2);
  t.is(await reservation(guest, MemoryOp.populate_physmap, [700]), 1);
  t.is(guest.at(700 * PAGE_SIZE).getUint32(0, true), 0);
});

test('E23: of two pins of a page given back the last one frees it', async (t) => {
  const guest = await ready(t);
  const { grants } = backend(t, guest);
  await reservation(guest, MemoryOp.decrease_reservation, [900]);
  for (const ref of [10, 11]) guest.domain.grantTable.seedEntry(ref, 0, 700);
  guest.at(700 * PAGE_SIZE).setUint32(0, 1, true);
  const handles = [10, 11].map((ref) => grants.mapOne(ref, false, 0, () => {}));
  t.is(guest.domain.p2m.frames.pins(700), 2);
  const before = hostPages(guest);
  await reservation(guest, MemoryOp.decrease_reservation, [700]);
  t.is(grants.unmapOne(handles[0]!), 0);
  t.is(before - hostPages(guest), 0);
  t.is(grants.unmapOne(handles[1]!), 0);
  t.is(before - hostPages(guest), 1);
  t.is(guest.domain.p2m.frames.pins(700), 0);
});

test('E110: a vcpu_info given back stays what the kernel writes to, and its frame cannot be had again', async (t) => {
  const guest = new Guest().endWith(t);
  const argument = guest.argument([[0, 8, 800], [8, 4, 64]]);
  t.is(guest.call(HypercallNumber.vcpu_op, [10, 0, argument]), 0);
  guest.at(800 * PAGE_SIZE).setUint32(2048, 0x77, true);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [800]), 1);
  t.is(guest.at(800 * PAGE_SIZE).getUint32(2048, true), 0x77);
  t.is(await reservation(guest, MemoryOp.populate_physmap, [800]), 0);
  await guest.bridge.resetMachine();
  t.is(guest.domain.p2m.kind(800), 'ram', 'a fresh machine has all of its memory');
  t.is(guest.domain.p2m.frames.pins(800), 0);
});

test('writes of backends are recorded when asked for: by map for writing and by copy, not by reading', async (t) => {
  const guest = new Guest().endWith(t);
  const { grants } = backend(t, guest);
  const { frames } = guest.domain.p2m;
  for (let i = 0; i < 4; i++) guest.domain.grantTable.seedEntry(10 + i, 0, 700 + i);
  grants.unmapOne(grants.mapOne(10, false, 0, () => {}));
  t.deepEqual(frames.takeDirty(0, 1024), [], 'nobody had asked');
  frames.trackDirty(true);
  grants.unmapOne(grants.mapOne(11, false, 0, () => {}));
  grants.unmapOne(grants.mapOne(12, true, 0, () => {}));
  t.is(grants.copyTo(13, 0, Uint8Array.of(1), 0, 1), 0);
  t.is(grants.copyFrom(12, 0, new Uint8Array(1), 0, 1), 0);
  t.deepEqual(frames.takeDirty(0, 1024), [701, 703]);
  t.deepEqual(frames.takeDirty(0, 1024), []);
  await reservation(guest, MemoryOp.decrease_reservation, [703]);
  t.is(frames.state(703), 5);
});
