import test from 'ava';
import { Gnttabop } from '../../../shim/abi/grant-table.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { errnoName, Guest } from '../../helpers/guest.js';

const SELF = 0x7ff0;
const op = (guest: Guest, command: number, argument: number, count = 1): Promise<number> =>
  guest.issue(HypercallNumber.grant_table_op, [command, argument, count]);

test('query_size and set_version reach the guest’s table', async (t) => {
  const guest = new Guest().endWith(t);
  const query = guest.argument([[0, 2, SELF]]);
  t.is(await op(guest, Gnttabop.query_size, query), 0);
  t.deepEqual([4, 8].map((at) => guest.at(query).getUint32(at, true)), [1, 64]);
  const version = guest.argument([[0, 4, 2]]);
  t.is(errnoName(await op(guest, Gnttabop.set_version, version)), '-ENOSYS');
  t.is(guest.at(version).getUint32(0, true), 1);
});

test('E20: a transfer, as all no HVM guest may do, is -ENOSYS; setup_table with count 2 -EINVAL', async (t) => {
  const guest = new Guest().endWith(t);
  for (const command of ['transfer', 'dump_table', 'unmap_and_replace', 'get_status_frames', 'cache_flush'] as const) {
    t.is(errnoName(await op(guest, Gnttabop[command], 0x8000)), '-ENOSYS', command);
  }
  t.is(errnoName(await op(guest, Gnttabop.setup_table, guest.argument([[0, 2, SELF]]), 2)), '-EINVAL');
  t.is(errnoName(await op(guest, Gnttabop.setup_table, guest.argument([[0, 2, SELF]]), -1)), '-EINVAL');
});

test('a copy between two frames of the guest goes through its memory map', async (t) => {
  const guest = new Guest().endWith(t);
  guest.at(700 * 4096).setUint32(16, 0xbeef, true);
  // source {frame u64, domid u16, offset u16}, dest likewise at 16, len u16 at 32, flags at 34, status at 36
  const source = [[0, 8, 700], [8, 2, SELF], [10, 2, 16]] as const;
  const dest = [[16, 8, 701], [24, 2, SELF], [26, 2, 32]] as const;
  const copy = guest.argument([...source, ...dest, [32, 2, 4]]);
  t.is(await op(guest, Gnttabop.copy, copy), 0);
  t.is(guest.at(copy).getInt16(36, true), 0);
  t.is(guest.at(701 * 4096).getUint32(32, true), 0xbeef);
});

test('a huge batch whose memory ends is -EFAULT, and nobody waits for it', async (t) => {
  const guest = new Guest().endWith(t);
  const answered = op(guest, Gnttabop.unmap_grant_ref, 0x20000, 0x7fff_ffff);
  t.is(guest.call(HypercallNumber.xen_version, [7], { vcpu: 1 }), 4096);
  t.is(errnoName(await answered), '-EFAULT');
});
