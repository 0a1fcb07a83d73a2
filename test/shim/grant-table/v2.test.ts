/** Version 2 grant tables, as a guest sets one up by hypercalls and backends use it. */
import test, { type ExecutionContext } from 'ava';
import { GnttabCopy64, Gnttabop, GrantEntryV2, Gntst } from '../../../shim/abi/grant-table.js';
import { MapSpace, MemoryOp } from '../../../shim/abi/memory.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import type { ForeignGrants } from '../../../shim/grant-table/foreign.js';
import { errnoName, Guest } from '../../helpers/guest.js';

const SELF = 0x7ff0;
const PERMIT = 1;
const TRANSITIVE = 3;
const READONLY = 4;
const READING = 8;
const WRITING = 16;
const SUB_PAGE = 256;
const STATUS = 2 ** 31;
/** Where the guest sees its first grant frame and its first status frame. */
const TABLE = 0xf2000;
const STATUSES = 0xf3000;
const PAGE = 70;

class V2Guest extends Guest {
  readonly grants: ForeignGrants;

  constructor(t: ExecutionContext, maxGrantFrames = 64) {
    super({ config: { maxGrantVersion: 2, maxGrantFrames } });
    this.endWith(t);
    this.grants = this.domain.attached.grants;
  }

  setVersion(version: number): { result: number; now: number } {
    const argument = this.argument([[0, 4, version]]);
    const result = this.call(HypercallNumber.grant_table_op, [Gnttabop.set_version, argument, 1]);
    return { result, now: this.at(argument).getUint32(0, true) };
  }

  place(idx: number, gfn: number): number {
    const argument = this.argument([[0, 2, SELF], [4, 4, MapSpace.grant_table], [8, 8, idx], [16, 8, gfn]]);
    return this.call(HypercallNumber.memory_op, [MemoryOp.add_to_physmap, argument]);
  }

  /** Version 2, table and status in sight. */
  ready(t: ExecutionContext): this {
    t.deepEqual(this.setVersion(2), { result: 0, now: 2 });
    t.is(this.place(0, TABLE), 0);
    t.is(this.place(STATUS, STATUSES), 0);
    return this;
  }

  entry(ref: number): DataView {
    return this.at(TABLE * 4096 + ref * GrantEntryV2.SIZE);
  }

  grant(ref: number, options: { flags?: number; domid?: number; frame?: number | bigint; part?: [number, number] } = {}): void {
    const { flags = PERMIT, domid = 0, frame = PAGE, part = [0, 0] } = options;
    const entry = this.entry(ref);
    entry.setUint16(GrantEntryV2.page_off, part[0], true);
    entry.setUint16(GrantEntryV2.length, part[1], true);
    entry.setBigUint64(GrantEntryV2.frame, BigInt(frame), true);
    entry.setUint16(GrantEntryV2.domid, domid, true);
    entry.setUint16(GrantEntryV2.flags, flags, true);
  }

  status(ref: number): number {
    return this.at(STATUSES * 4096 + ref * 2).getUint16(0, true);
  }

  map(ref: number, readonly = false): number {
    return this.grants.mapOne(ref, readonly, 0, () => {});
  }
}

test('E19: 3 is -EINVAL, 2 is taken where it is offered, and the version in force is written back', (t) => {
  const guest = new V2Guest(t);
  t.deepEqual(guest.setVersion(3), { result: -22, now: 1 });
  t.deepEqual(guest.setVersion(2), { result: 0, now: 2 });
  t.deepEqual(guest.setVersion(0), { result: -22, now: 2 });
  t.deepEqual(guest.setVersion(2), { result: 0, now: 2 });
  t.deepEqual(guest.setVersion(1), { result: 0, now: 1 });
});

test('E20: transfer and get_status_frames stay -ENOSYS, and status frames without version 2 are -EINVAL', (t) => {
  const guest = new V2Guest(t);
  t.is(errnoName(guest.place(STATUS, STATUSES)), '-EINVAL');
  guest.ready(t);
  for (const op of [Gnttabop.transfer, Gnttabop.get_status_frames]) {
    t.is(errnoName(guest.call(HypercallNumber.grant_table_op, [op, guest.argument([]), 1])), '-ENOSYS');
  }
});

test('a map sets the status word, not the entry, and its unmap clears it', (t) => {
  const guest = new V2Guest(t).ready(t);
  for (const ref of [8, 9, 255]) {
    guest.grant(ref);
    const handle = guest.map(ref);
    t.true(handle >= 0);
    t.is(guest.status(ref), READING | WRITING);
    t.is(guest.status(ref ^ 1), 0, 'its neighbour in the same word');
    t.is(guest.entry(ref).getUint16(0, true), PERMIT);
    t.is(guest.grants.unmapOne(handle), 0);
    t.is(guest.status(ref), 0);
  }
});

test('the page handed over is the entry’s, and stays so while it is mapped', (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.at(PAGE * 4096).setUint32(0, 0xfeed, true);
  guest.grant(8);
  let seen = 0;
  const handle = guest.grants.mapOne(8, true, 0, (_, window, offset) => (seen = window.view.getUint32(offset, true)));
  t.is(seen, 0xfeed);
  t.is(guest.status(8), READING);
  guest.grant(8, { frame: PAGE + 1, flags: 0 });
  const second = guest.grants.mapOne(8, true, 0, (_, window, offset) => (seen = window.view.getUint32(offset, true)));
  t.is(seen, 0xfeed);
  guest.grants.unmapOne(handle);
  t.is(guest.status(8), READING);
  guest.grants.unmapOne(second);
  t.is(guest.status(8), 0);
  t.is(guest.map(8), Gntst.general_error, 'and is gone with the last pin');
});

test('E04: wrong type, wrong domain, no such ref: refused, and the status untouched', (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.grant(8, { flags: 0 });
  guest.grant(9, { domid: 3 });
  guest.grant(10, { flags: TRANSITIVE });
  guest.grant(11, { flags: 2 });
  for (const ref of [8, 9, 10, 11]) {
    t.is(guest.map(ref), Gntst.general_error);
    t.is(guest.status(ref), 0);
  }
  t.is(guest.map(256), Gntst.bad_gntref, 'a frame has 256 entries of version 2');
  t.is(guest.map(0xffff_ffff), Gntst.bad_gntref);
});

test('E05: a read-only grant can be mapped to read, and a refused write leaves the reader’s bit', (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.grant(8, { flags: PERMIT | READONLY });
  const reader = guest.map(8, true);
  t.true(reader >= 0);
  t.is(guest.map(8, false), Gntst.general_error);
  t.is(guest.status(8), READING);
  guest.grants.unmapOne(reader);
});

test('E09: frames that are holes, beyond 2^32 or 2^52 are bad_page, and leave no status', (t) => {
  const guest = new V2Guest(t).ready(t);
  for (const frame of [5000, 2n ** 32n + BigInt(PAGE), 2n ** 52n, 2n ** 64n - 1n]) {
    guest.grant(8, { frame });
    t.is(guest.map(8), Gntst.bad_page);
    t.is(guest.status(8), 0);
  }
});

test('a guest that takes its grant back between the look and the status is refused', (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.grant(8);
  const { frames } = guest.domain.grantTable;
  const orStatus = frames.orStatus.bind(frames);
  frames.orStatus = (ref, bits) => {
    guest.grant(8, { flags: 0 });
    orStatus(ref, bits);
  };
  t.is(guest.map(8), Gntst.general_error);
  t.is(guest.status(8), 0);
});

test('a sub-page grant cannot be mapped, and a copy must stay inside it', (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.grant(8, { flags: PERMIT | SUB_PAGE, part: [512, 256] });
  t.is(guest.map(8), Gntst.general_error);
  const bytes = new Uint8Array(4096);
  guest.at(PAGE * 4096 + 512).setUint8(0, 77);
  t.is(guest.grants.copyFrom(8, 512, bytes, 0, 256), 0);
  t.is(bytes[0], 77);
  t.is(guest.grants.copyFrom(8, 511, bytes, 0, 8), Gntst.general_error);
  t.is(guest.grants.copyFrom(8, 700, bytes, 0, 69), Gntst.general_error);
  t.is(guest.grants.copyFrom(8, 700, bytes, 0, 68), 0);
  t.is(guest.grants.copyFrom(8, 4000, bytes, 0, 200), Gntst.bad_copy_arg);
  t.is(guest.grants.copyTo(8, 0, bytes, 0, 1), Gntst.general_error);
  t.is(guest.status(8), 0);
});

test('sub-page grants with impossible parts give nothing', (t) => {
  const guest = new V2Guest(t).ready(t);
  const bytes = new Uint8Array(16);
  for (const part of [[0, 0], [0xffff, 0], [4090, 0], [0xffff, 0xffff]] as [number, number][]) {
    guest.grant(8, { flags: PERMIT | SUB_PAGE, part });
    t.is(guest.grants.copyFrom(8, 0, bytes, 0, 1), Gntst.general_error, String(part));
    t.is(guest.grants.copyFrom(8, 4095, bytes, 0, 1), Gntst.general_error, String(part));
  }
  guest.grant(8, { flags: PERMIT | SUB_PAGE, part: [4090, 100] });
  t.is(guest.grants.copyFrom(8, 4090, bytes, 0, 7), Gntst.bad_copy_arg);
  t.is(guest.grants.copyFrom(8, 4090, bytes, 0, 6), 0);
});

test('a transitive grant is followed one level, and there is nobody it could lead to', (t) => {
  const guest = new V2Guest(t).ready(t);
  const bytes = new Uint8Array(16);
  for (const [domid, status] of [[0, Gntst.bad_gntref], [1, Gntst.general_error], [9, Gntst.general_error]] as const) {
    guest.grant(8, { flags: TRANSITIVE, part: [domid, 0], frame: 8 });
    t.is(guest.grants.copyFrom(8, 0, bytes, 0, 8), status);
    t.is(guest.status(8), 0);
  }
});

test('a copy by the guest itself obeys sub-pages, too', (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.grant(8, { domid: 1, flags: PERMIT | SUB_PAGE, part: [64, 64] });
  const copy = (offset: number): number => {
    const argument = guest.argument([
      [GnttabCopy64.source_ref, 4, 8], [GnttabCopy64.source_domid, 2, SELF], [GnttabCopy64.source_offset, 2, offset],
      [GnttabCopy64.dest_gmfn, 8, PAGE + 1], [GnttabCopy64.dest_domid, 2, SELF],
      [GnttabCopy64.len, 2, 32], [GnttabCopy64.flags, 2, 1],
    ]);
    t.is(guest.call(HypercallNumber.grant_table_op, [Gnttabop.copy, argument, 1]), 0);
    return guest.at(argument + GnttabCopy64.status).getInt16(0, true);
  };
  t.is(copy(64), 0);
  t.is(copy(96), 0);
  t.is(copy(97), Gntst.general_error);
  t.is(copy(0), Gntst.general_error);
});

test('the version cannot change while a grant is in use; the reserved ones may be, and stay granted', (t) => {
  const guest = new V2Guest(t).ready(t);
  const console = guest.map(0);
  t.true(console >= 0, 'the console ring was carried over to version 2');
  t.is(guest.status(0), READING | WRITING);
  guest.grant(8);
  const handle = guest.map(8);
  t.deepEqual(guest.setVersion(1), { result: -16, now: 2 });
  guest.grants.unmapOne(handle);
  t.deepEqual(guest.setVersion(1), { result: 0, now: 1 });
  t.is(guest.at(TABLE * 4096).getUint16(0, true), PERMIT | READING | WRITING);
  t.is(guest.at(TABLE * 4096 + 4).getUint32(0, true), 0xfeff9, 'the console’s frame');
  t.is(guest.at(TABLE * 4096 + 8 * 8).getUint32(0, true), 0, 'all others are empty');
  t.is(guest.grants.unmapOne(console), 0);
  t.is(guest.at(TABLE * 4096).getUint16(0, true), PERMIT);
});

test('back to version 1 is -ERANGE while a reserved entry says what version 1 cannot', (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.grant(5, { frame: 2n ** 32n });
  t.deepEqual(guest.setVersion(1), { result: -34, now: 2 });
  guest.grant(5, { flags: TRANSITIVE });
  t.deepEqual(guest.setVersion(1), { result: -34, now: 2 });
  guest.grant(5);
  t.deepEqual(guest.setVersion(1), { result: 0, now: 1 });
});

for (const where of [STATUSES, 90]) {
  test(`status frames leave the guest's sight with version 1, and come back empty (at frame ${where.toString(16)})`, (t) => {
    const guest = new V2Guest(t);
    guest.setVersion(2);
    t.is(guest.place(0, TABLE), 0);
    t.is(guest.place(STATUS, where), 0);
    guest.grant(8);
    t.true(guest.map(8) >= 0);
    t.is(guest.at(where * 4096 + 16).getUint16(0, true), READING | WRITING);
    guest.domain.grantTable.reset();
    t.is(guest.domain.grantTable.version, 1);
    guest.setVersion(2);
    t.is(guest.place(STATUS, where), 0);
    t.is(guest.at(where * 4096 + 16).getUint16(0, true), 0);
    t.is(guest.setVersion(1).result, 0);
    if (where === STATUSES) t.is(guest.bridge.locate(where), undefined);
    t.is(guest.domain.grantTable.gfnOfFrame(guest.domain.grantTable.statusFrame(0)), -1);
  });
}

test('status frames grow the table, and the table grows its status frames', (t) => {
  const guest = new V2Guest(t).ready(t);
  t.is(guest.place(STATUS + 1, STATUSES + 1), 0);
  t.is(guest.domain.grantTable.nrFrames, 9);
  t.is(guest.place(20, TABLE + 20), 0);
  const ref = 20 * 256 + 3;
  const entry = guest.at((TABLE + 20) * 4096 + 3 * 16);
  entry.setBigUint64(8, BigInt(PAGE), true);
  entry.setUint16(0, PERMIT, true);
  t.true(guest.map(ref) >= 0);
  t.is(guest.place(STATUS + 2, STATUSES + 2), 0);
  t.is(guest.at((STATUSES + 2) * 4096 + (ref - 4096) * 2).getUint16(0, true), READING | WRITING);
  t.is(errnoName(guest.place(STATUS + 8, STATUSES + 8)), '-EINVAL', '64 grant frames need 8');
  t.is(errnoName(guest.place(0xffff_ffff, STATUSES + 8)), '-EINVAL');
  t.is(guest.place(STATUS + 7, STATUSES + 7), 0);
  t.is(guest.domain.grantTable.nrFrames, 57);
});

test('a reset of the machine brings version 1 back, with nothing of the old table', async (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.grant(8);
  guest.map(8);
  await guest.bridge.resetMachine();
  const { grantTable } = guest.domain;
  t.is(grantTable.version, 1);
  t.is(grantTable.stats().handles, 0);
  t.true(guest.map(0, true) >= 0, 'the console’s entry is there in version 1');
  t.is(guest.place(0, TABLE), 0);
  t.is(guest.at(TABLE * 4096).getUint16(0, true), PERMIT | READING);
});

test('swap_grant_ref exchanges entries of 16 bytes', (t) => {
  const guest = new V2Guest(t).ready(t);
  guest.grant(8, { frame: PAGE });
  guest.grant(9, { frame: PAGE + 1, flags: PERMIT | READONLY });
  const argument = guest.argument([[0, 4, 8], [4, 4, 9]]);
  t.is(guest.call(HypercallNumber.grant_table_op, [Gnttabop.swap_grant_ref, argument, 1]), 0);
  t.is(guest.at(argument + 8).getInt16(0, true), 0);
  t.is(guest.entry(8).getUint16(0, true), PERMIT | READONLY);
  t.is(Number(guest.entry(9).getBigUint64(8, true)), PAGE);
});
