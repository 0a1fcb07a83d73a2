import test from 'ava';
import { Errno } from '../../../shim/abi/errno.js';
import { MapSpace, MemoryOp } from '../../../shim/abi/memory.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { SpecialGfn } from '../../../shim/domain/own-pages.js';
import { guestRegions } from '../../../shim/hypercall/memory-op/memory-map.js';
import { errnoName, Guest } from '../../helpers/guest.js';

const SELF = 0x7ff0;
const HOLE = 0xf2000;

function add(guest: Guest, space: number, idx: number | bigint, gfn: number | bigint, domid = SELF): number {
  const argument = guest.longMode
    ? guest.argument([[0, 2, domid], [4, 4, space], [8, 8, idx], [16, 8, gfn]])
    : guest.argument([[0, 2, domid], [4, 4, space], [8, 4, idx], [12, 4, gfn]]);
  return guest.call(HypercallNumber.memory_op, [MemoryOp.add_to_physmap, argument]);
}

function remove(guest: Guest, gfn: number): number {
  const argument = guest.argument([[0, 2, SELF], [8, 8, gfn]]);
  return guest.call(HypercallNumber.memory_op, [MemoryOp.remove_from_physmap, argument]);
}

/** Extents listed in page 16. */
function reservation(
  guest: Guest,
  command: number,
  gfns: readonly (number | bigint)[],
  options: { order?: number; start?: number; count?: number | bigint; domid?: number; list?: number } = {},
): Promise<number> {
  const { order = 0, start = 0, count = gfns.length, domid = SELF, list = 16 * 4096 } = options;
  const view = guest.at(16 * 4096);
  gfns.forEach((gfn, i) => view.setBigUint64(i * 8, BigInt(gfn), true));
  const argument = guest.argument([[0, 8, list], [8, 8, count], [16, 4, order], [24, 2, domid]]);
  return guest.issue(HypercallNumber.memory_op, [command | (start << 6), argument]);
}

test('E21: add_to_physmap of shared_info index 1 and of grant frame 64 are -EINVAL', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(add(guest, MapSpace.shared_info, 1, HOLE)), '-EINVAL');
  t.is(errnoName(add(guest, MapSpace.grant_table, 64, HOLE)), '-EINVAL');
  t.is(errnoName(add(guest, MapSpace.grant_table, 0x8000_0000, HOLE)), '-EINVAL');
  t.is(errnoName(add(guest, MapSpace.grant_table, 2n ** 64n - 1n, HOLE)), '-EINVAL');
  t.deepEqual(guest.bridge.callsOf('setSharedInfo'), []);
  t.is(guest.domain.grantTable.nrFrames, 1);
});

test('a frame beyond any processor’s memory is -EINVAL', (t) => {
  const guest = new Guest().endWith(t);
  for (const gfn of [2n ** 40n, 2n ** 52n, 2n ** 64n - 1n]) {
    t.is(errnoName(add(guest, MapSpace.shared_info, 0, gfn)), '-EINVAL');
    t.is(errnoName(add(guest, MapSpace.grant_table, 0, gfn)), '-EINVAL');
  }
});

test('other spaces are -ENOSYS, other domains -ESRCH or -EPERM', (t) => {
  const guest = new Guest().endWith(t);
  for (const space of [2, 3, 4, 5, 99]) t.is(errnoName(add(guest, space, 0, HOLE)), '-ENOSYS', `space ${space}`);
  t.is(errnoName(add(guest, MapSpace.shared_info, 0, HOLE, 0)), '-EPERM');
  t.is(errnoName(add(guest, MapSpace.shared_info, 0, HOLE, 7)), '-ESRCH');
  t.is(add(guest, MapSpace.shared_info, 0, HOLE, 1), 0);
});

test('grant frames go over holes as pages of ours, highest first or not, and the table grows', (t) => {
  const guest = new Guest().endWith(t);
  for (let frame = 3; frame >= 0; frame--) t.is(add(guest, MapSpace.grant_table, frame, HOLE + frame), 0);
  t.is(guest.domain.grantTable.nrFrames, 4);
  for (let frame = 0; frame < 4; frame++) {
    t.is(guest.bridge.placed.get(HOLE + frame), frame);
    t.is(guest.domain.p2m.kind(HOLE + frame), 'own');
  }
  // An entry the guest writes is seen by the table.
  guest.at(HOLE * 4096 + 10 * 8).setUint32(0, 1, true);
  guest.at(HOLE * 4096 + 10 * 8).setUint32(4, 20, true);
  const { grantTable } = guest.domain;
  grantTable.enter();
  const handle = grantTable.map(10, false);
  grantTable.leave();
  t.true(handle >= 0);
  t.is(guest.at(HOLE * 4096 + 10 * 8).getUint16(0, true), 1 | 8 | 16);
});

test('a grant frame placed in RAM takes its contents along, and back when it moves on', (t) => {
  const guest = new Guest().endWith(t);
  t.is(add(guest, MapSpace.grant_table, 0, HOLE), 0);
  guest.at(HOLE * 4096).setUint32(4000, 0xcafe, true);
  t.is(add(guest, MapSpace.grant_table, 0, 300), 0);
  t.false(guest.bridge.placed.has(HOLE));
  t.is(guest.at(300 * 4096).getUint32(4000, true), 0xcafe);
  t.is(guest.domain.p2m.kind(HOLE), 'hole');
  t.is(add(guest, MapSpace.grant_table, 0, HOLE + 1), 0);
  t.is(guest.at((HOLE + 1) * 4096).getUint32(4000, true), 0xcafe);
});

test('two grant frames cannot be at one place: the second drives the first out', (t) => {
  const guest = new Guest().endWith(t);
  t.is(add(guest, MapSpace.grant_table, 0, HOLE), 0);
  t.is(add(guest, MapSpace.grant_table, 1, HOLE), 0);
  t.is(guest.bridge.placed.get(HOLE), 1);
  t.is(guest.domain.grantTable.gfnOfFrame(0), -1);
});

test('shared_info in RAM: that page is used, the kernel told after the width, then every vCPU', (t) => {
  const guest = new Guest({ vcpus: 3 }).endWith(t);
  guest.at(0x10 * 4096).setUint32(0, 0xdead, true);
  guest.bridge.calls.length = 0;
  t.is(add(guest, MapSpace.shared_info, 0, 0x10), 0);
  t.is(guest.at(0x10 * 4096).getUint32(0, true) & 0xff00, 0, 'what was in the page is gone');
  const order = guest.bridge.calls
    .map(({ method, args }) => `${method} ${args.join(' ')}`)
    .filter((line) => /^set/.test(line));
  t.deepEqual(order, [
    'setLongMode true',
    'setSharedInfo 16',
    'setVcpuInfo 0 65536',
    'setVcpuInfo 1 65600',
    'setVcpuInfo 2 65664',
  ]);
  t.false(guest.bridge.placed.has(0x10));
});

test('shared_info over a hole is a page of ours; placed again it moves, and the old frame is a hole', (t) => {
  const guest = new Guest().endWith(t);
  t.is(add(guest, MapSpace.shared_info, 0, HOLE), 0);
  t.is(guest.bridge.sharedInfo, HOLE);
  guest.at(HOLE * 4096).setUint32(2560, 0x55, true);
  t.is(add(guest, MapSpace.shared_info, 0, HOLE + 5), 0);
  t.is(guest.bridge.sharedInfo, HOLE + 5);
  t.is(guest.at((HOLE + 5) * 4096).getUint32(2560, true), 0x55);
  t.is(guest.domain.p2m.kind(HOLE), 'hole');
  t.is(add(guest, MapSpace.shared_info, 0, 0x20), 0);
  t.is(guest.at(0x20 * 4096).getUint32(2560, true), 0x55);
  t.is(guest.bridge.vcpuInfo.get(1), 0x20 * 4096 + 64);
});

test('the kernel refuses a place: -EINVAL, and shared_info is nowhere rather than half moved', (t) => {
  const guest = new Guest().endWith(t);
  guest.bridge.refuse.set('placeOwnPage', Errno.EEXIST);
  t.is(errnoName(add(guest, MapSpace.shared_info, 0, HOLE)), '-EINVAL');
  t.is(guest.domain.sharedInfo.gfn, undefined);
  guest.bridge.refuse.clear();
  t.is(add(guest, MapSpace.shared_info, 0, HOLE), 0);
});

test('a 32-bit guest’s structures are read in their own layout', (t) => {
  const guest = new Guest().endWith(t);
  guest.longMode = false;
  t.is(add(guest, MapSpace.shared_info, 0, HOLE), 0);
  t.is(guest.bridge.sharedInfo, HOLE);
  t.false(guest.bridge.longMode);
});

test('remove_from_physmap of nothing is -ENOENT; of a page of ours or RAM it leaves a hole', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(remove(guest, HOLE)), '-ENOENT');
  add(guest, MapSpace.grant_table, 0, HOLE);
  t.is(remove(guest, HOLE), 0);
  t.false(guest.bridge.placed.has(HOLE));
  t.is(errnoName(remove(guest, HOLE)), '-ENOENT');
  t.is(remove(guest, 500), 0);
  t.is(errnoName(remove(guest, 500)), '-ENOENT');
  t.is(guest.domain.p2m.kind(500), 'hole');
});

test('add_to_physmap_batch reports each entry, and starts where the command says', async (t) => {
  const guest = new Guest().endWith(t);
  const page = 16 * 4096;
  const view = guest.at(page);
  [0, 1, 64, 2].forEach((idx, i) => view.setBigUint64(i * 8, BigInt(idx), true));
  [HOLE, HOLE + 1, HOLE + 2, HOLE + 3].forEach((gfn, i) => view.setBigUint64(256 + i * 8, BigInt(gfn), true));
  for (let i = 0; i < 4; i++) view.setInt32(512 + i * 4, 99, true);
  const arrays = [[8, 8, page], [16, 8, page + 256], [24, 8, page + 512]] as const;
  const argument = guest.argument([[0, 2, SELF], [2, 2, 1], [4, 2, 4], ...arrays]);
  t.is(await guest.issue(HypercallNumber.memory_op, [MemoryOp.add_to_physmap_batch | (1 << 6), argument]), 0);
  t.deepEqual([0, 1, 2, 3].map((i) => view.getInt32(512 + i * 4, true)), [99, 0, -Errno.EINVAL, 0]);
  t.false(guest.bridge.placed.has(HOLE));
  t.is(guest.bridge.placed.get(HOLE + 3), 2);
  const beyond = await guest.issue(HypercallNumber.memory_op, [MemoryOp.add_to_physmap_batch | (5 << 6), argument]);
  t.is(errnoName(beyond), '-EILSEQ');
});

test('reservations and frame numbers are those of the guest’s RAM', (t) => {
  const guest = new Guest({ ram: [{ gfn: 0, pages: 512 }, { gfn: 0x100000, pages: 256 }] }).endWith(t);
  const ask = (command: number, domid = SELF): number =>
    guest.call(HypercallNumber.memory_op, [command, guest.argument([[0, 2, domid]])]);
  t.is(ask(MemoryOp.current_reservation), 768);
  t.is(ask(MemoryOp.maximum_reservation), 768);
  t.is(ask(MemoryOp.maximum_gpfn), 0x100000 + 255);
  t.is(guest.call(HypercallNumber.memory_op, [MemoryOp.maximum_ram_page, 0]), 0x100000 + 255);
  t.is(errnoName(ask(MemoryOp.current_reservation, 9)), '-ESRCH');
  t.is(errnoName(ask(MemoryOp.current_reservation, 0)), '-EPERM');
});

test('the balloon: frames given back are holes and come back zeroed', async (t) => {
  const guest = new Guest().endWith(t);
  guest.at(600 * 4096).setUint32(0, 0xabcd, true);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [600, 601]), 2);
  t.is(guest.domain.p2m.kind(600), 'hole');
  t.is(guest.domain.p2m.currentPages, 1022);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [602, 600, 603]), 1, 'stops at what is gone already');
  t.is(await reservation(guest, MemoryOp.populate_physmap, [600, 601, 602]), 3);
  t.is(guest.at(600 * 4096).getUint32(0, true), 0);
  t.is(guest.domain.p2m.currentPages, 1024);
  t.is(await reservation(guest, MemoryOp.populate_physmap, [600]), 0, 'it is there already');
  t.is(await reservation(guest, MemoryOp.populate_physmap, [HOLE]), 0, 'no memory stands behind it');
  t.is(await reservation(guest, MemoryOp.increase_reservation, [0]), 0);
});

test('extents of 2 MiB are given back whole; larger ones are not begun', async (t) => {
  const guest = new Guest({ ram: [{ gfn: 0, pages: 2048 }] }).endWith(t);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [512], { order: 9 }), 1);
  t.is(guest.domain.p2m.currentPages, 2048 - 512);
  t.is(await reservation(guest, MemoryOp.populate_physmap, [512], { order: 9 }), 1);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [1024], { order: 10 }), 0);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [1024], { order: 0xffff_ffff }), 0);
  t.is(guest.domain.p2m.currentPages, 2048);
});

test('whatever stops a reservation call, the result is the number of extents done, never an errno', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [700], { domid: 0 }), 0);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [700], { list: 0x7fff_f000 }), 0);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [700], { count: 2n ** 64n - 1n }), 0);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [2n ** 64n - 1n]), 0);
  t.is(guest.call(HypercallNumber.memory_op, [MemoryOp.decrease_reservation | (3 << 6), 0x7fff_f000]), 3);
  t.is(guest.domain.p2m.currentPages, 1024);
});

test('a reservation call begins at the extent above the command', async (t) => {
  const guest = new Guest().endWith(t);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [700, 701, 702], { start: 2 }), 3);
  t.is(guest.domain.p2m.kind(701), 'ram');
  t.is(guest.domain.p2m.kind(702), 'hole');
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [700], { start: 5 }), 5);
  t.is(guest.domain.p2m.kind(700), 'ram');
});

test('E99: a long call whose vCPU is gone does no further extent, and one repeated does none twice', async (t) => {
  const guest = new Guest({ ram: [{ gfn: 0, pages: 120_000 }] }).endWith(t);
  const list = 1000 * 4096;
  const words = new BigUint64Array(60_000);
  for (let i = 0; i < words.length; i++) words[i] = BigInt(50_000 + i);
  guest.bridge.memory.write(list, new Uint8Array(words.buffer));
  const argument = guest.argument([[0, 8, list], [8, 8, words.length], [16, 4, 0], [24, 2, SELF]]);
  const answered = guest.issue(HypercallNumber.memory_op, [MemoryOp.decrease_reservation, argument]);
  t.true(guest.bridge.isWaiting(0), 'the call is carried on in later turns');
  guest.dispatcher.reset();
  const done = guest.domain.p2m.totalPages - guest.domain.p2m.currentPages;
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.is(guest.domain.p2m.totalPages - guest.domain.p2m.currentPages, done);
  guest.bridge.complete(0, done);
  t.is(await answered, done);
  // The same call, resumed where it was left: the rest, each once.
  const resumed = guest.argument([[0, 8, list + done * 8], [8, 8, words.length - done], [16, 4, 0], [24, 2, SELF]]);
  t.is(await guest.issue(HypercallNumber.memory_op, [MemoryOp.decrease_reservation, resumed]), words.length - done);
  t.is(guest.domain.p2m.totalPages - guest.domain.p2m.currentPages, words.length);
});

test('a long call leaves the event loop to others', async (t) => {
  const guest = new Guest({ ram: [{ gfn: 0, pages: 120_000 }] }).endWith(t);
  const list = 1000 * 4096;
  const words = new BigUint64Array(60_000).map((_, i) => BigInt(50_000 + i));
  guest.bridge.memory.write(list, new Uint8Array(words.buffer));
  const argument = guest.argument([[0, 8, list], [8, 8, words.length], [16, 4, 0], [24, 2, SELF]]);
  const answered = guest.issue(HypercallNumber.memory_op, [MemoryOp.decrease_reservation, argument]);
  let turns = 0;
  const turn = (): void => {
    turns++;
    if (guest.bridge.isWaiting(0)) setImmediate(turn);
  };
  setImmediate(turn);
  t.is(guest.call(HypercallNumber.xen_version, [7], { vcpu: 1 }), 4096);
  t.is(await answered, words.length);
  t.true(turns > 3, `${turns} turns`);
});

test('E110: the guest gives its own shared_info, store ring and grant frame back; only it is hurt', async (t) => {
  const guest = new Guest().endWith(t);
  add(guest, MapSpace.shared_info, 0, 0x30);
  add(guest, MapSpace.grant_table, 0, 0x31);
  t.is(await reservation(guest, MemoryOp.decrease_reservation, [0x30, 0x31, 0xfeff8]), 3);
  t.is(guest.bridge.sharedInfo, undefined);
  t.false(guest.bridge.placed.has(0xfeff8));
  guest.domain.store.u8[guest.domain.store.offset] = 1;
  t.is(guest.domain.grantTable.gfnOfFrame(0), -1);
  const port = guest.call(HypercallNumber.event_channel_op, [7, guest.argument([[0, 4, 0]])]);
  t.is(port, 0);
  const send = guest.argument([[0, 4, guest.domain.store.port.remotePort]]);
  t.is(guest.call(HypercallNumber.event_channel_op, [4, send]), 0);
});

test('a frame given back cannot be granted until it is populated again', async (t) => {
  const guest = new Guest().endWith(t);
  add(guest, MapSpace.grant_table, 0, HOLE);
  guest.at(HOLE * 4096 + 80).setUint32(4, 800, true);
  guest.at(HOLE * 4096 + 80).setUint32(0, 1, true);
  const map = (): number => {
    const { grantTable } = guest.domain;
    grantTable.enter();
    const handle = grantTable.map(10, false);
    grantTable.leave();
    return handle;
  };
  await reservation(guest, MemoryOp.decrease_reservation, [800]);
  t.is(map(), -9);
  await reservation(guest, MemoryOp.populate_physmap, [800]);
  t.true(map() >= 0);
});

test('E93: no memory map names a special page as RAM, with any amount of RAM on pc and q35', (t) => {
  // QEMU's own map, which a PVH kernel gets in start_info, is of the same RAM: below 4 GiB it ends at 3.5 GiB at most.
  for (const low of [0x1000, 0x2_0000, 0x8_0000, 0xb_0000, 0xc_0000, 0xe_0000]) {
    const ranges = [{ fd: 0, offset: 0, gfn: 0, pages: low }, { fd: 0, offset: 0, gfn: 0x10_0000, pages: 0x4_0000 }];
    for (const gfn of Object.values(SpecialGfn)) {
      const inRam = guestRegions(ranges).some(({ addr, size }) => gfn * 4096 >= addr && gfn * 4096 < addr + size);
      t.false(inRam, `${gfn.toString(16)} with ${low.toString(16)} pages`);
    }
  }
});

test('memory_map tells RAM around the legacy hole, as many entries as fit', (t) => {
  const guest = new Guest({ ram: [{ gfn: 0, pages: 1024 }, { gfn: 0x100000, pages: 256 }] }).endWith(t);
  const buffer = 16 * 4096;
  const ask = (entries: number): number[] => {
    const argument = guest.argument([[0, 4, entries], [8, 8, buffer]]);
    t.is(guest.call(HypercallNumber.memory_op, [MemoryOp.memory_map, argument]), 0);
    return Array.from({ length: guest.at(argument).getUint32(0, true) }, (_, i) => i);
  };
  const view = guest.at(buffer);
  const entries = ask(32).map((i) => [
    Number(view.getBigUint64(i * 20, true)),
    Number(view.getBigUint64(i * 20 + 8, true)),
    view.getUint32(i * 20 + 16, true),
  ]);
  t.deepEqual(entries, [
    [0, 0xa_0000, 1],
    [0xa_0000, 0x6_0000, 2],
    [0x10_0000, 1024 * 4096 - 0x10_0000, 1],
    [2 ** 32, 256 * 4096, 1],
  ]);
  t.is(ask(2).length, 2);
  t.is(ask(0).length, 0);
  const bad = guest.argument([[0, 4, 4], [8, 8, 0x7fff_f000]]);
  t.is(errnoName(guest.call(HypercallNumber.memory_op, [MemoryOp.memory_map, bad])), '-EFAULT');
});

test('ranges that touch are one region, in order whatever order they come in', (t) => {
  const range = (gfn: number, pages: number) => ({ fd: 0, offset: 0, gfn, pages });
  t.deepEqual(guestRegions([range(0x300, 0x100), range(0, 0xa0), range(0xc0, 0x240)]), [
    { addr: 0, size: 0xa_0000, type: 1 },
    { addr: 0xa_0000, size: 0x6_0000, type: 2 },
    { addr: 0x10_0000, size: 0x30_0000, type: 1 },
  ]);
});

test('operations for the toolstack are -EPERM, those of PV guests -ENOSYS', (t) => {
  const guest = new Guest().endWith(t);
  for (const command of ['machine_memory_map', 'set_memory_map', 'set_pod_target', 'acquire_resource'] as const) {
    t.is(errnoName(guest.call(HypercallNumber.memory_op, [MemoryOp[command], 0])), '-EPERM', command);
  }
  for (const command of ['exchange', 'machphys_mfn_list', 'machphys_mapping'] as const) {
    t.is(errnoName(guest.call(HypercallNumber.memory_op, [MemoryOp[command], 0])), '-ENOSYS', command);
  }
});
