import test from 'ava';
import { XenVersionOp } from '../../../shim/abi/version.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { errnoName, Guest } from '../../helpers/guest.js';

const BUFFER = 16 * 4096;
const version = (guest: Guest, command: number, buffer = BUFFER): number =>
  guest.call(HypercallNumber.xen_version, [command, buffer]);

function text(guest: Guest, length: number, at = 0): string {
  const bytes = Array.from({ length }, (_, i) => guest.at(BUFFER + at).getUint8(i));
  return String.fromCharCode(...bytes.slice(0, bytes.indexOf(0)));
}

test('version is 4.17 or later, pagesize 4096', (t) => {
  const guest = new Guest().endWith(t);
  const result = version(guest, XenVersionOp.version, 0);
  t.is(result >> 16, 4);
  t.true((result & 0xffff) >= 17);
  t.is(version(guest, XenVersionOp.pagesize, 0), 4096);
});

test('texts are NUL-terminated and fill their structure', (t) => {
  const guest = new Guest().endWith(t);
  for (let i = 0; i < 1100; i++) guest.at(BUFFER).setUint8(i, 0xff);
  t.is(version(guest, XenVersionOp.extraversion), 0);
  t.regex(text(guest, 16), /^\.\d+-xenshim$/);
  t.is(guest.at(BUFFER).getUint8(16), 0xff);
  t.is(version(guest, XenVersionOp.capabilities), 0);
  t.is(text(guest, 1024), 'xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64');
  t.is(guest.at(BUFFER).getUint8(1023), 0);
  t.is(guest.at(BUFFER).getUint8(1024), 0xff);
  t.is(version(guest, XenVersionOp.changeset), 0);
  t.is(version(guest, XenVersionOp.commandline), 0);
  t.is(text(guest, 1024), '<denied>');
  t.is(version(guest, XenVersionOp.compile_info), 0);
  t.is(text(guest, 64), 'TypeScript');
  t.is(text(guest, 16, 64), 'xenshim');
});

test('features are those of an HVM guest, in submap 0 only', (t) => {
  const guest = new Guest().endWith(t);
  const argument = guest.argument([[0, 4, 0]]);
  t.is(version(guest, XenVersionOp.get_features, argument), 0);
  const bits = guest.at(argument).getUint32(4, true);
  const set = Array.from({ length: 32 }, (_, bit) => bit).filter((bit) => (bits & (1 << bit)) !== 0);
  t.deepEqual(set, [0, 2, 8, 9, 16, 18, 19]);
  t.is(errnoName(version(guest, XenVersionOp.get_features, guest.argument([[0, 4, 1]]))), '-EINVAL');
});

test('the platform’s parameters have the width of the caller', (t) => {
  const guest = new Guest().endWith(t);
  t.is(version(guest, XenVersionOp.platform_parameters), 0);
  t.is(guest.at(BUFFER).getBigUint64(0, true), 0xffff_8000_0000_0000n);
  guest.longMode = false;
  guest.at(BUFFER).setBigUint64(0, 0n, true);
  t.is(version(guest, XenVersionOp.platform_parameters), 0);
  t.is(guest.at(BUFFER).getUint32(4, true), 0);
});

test('the handle is the guest’s UUID', (t) => {
  const uuid = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
  const guest = new Guest({ config: { uuid } }).endWith(t);
  t.is(version(guest, XenVersionOp.guest_handle), 0);
  t.deepEqual(Uint8Array.from({ length: 16 }, (_, i) => guest.at(BUFFER).getUint8(i)), uuid);
});

test('there is no build id, and a buffer that is not there is -EFAULT', (t) => {
  const guest = new Guest().endWith(t);
  t.is(errnoName(version(guest, XenVersionOp.build_id, 0)), '-ENODATA');
  for (const command of [1, 2, 3, 4, 5, 6, 8, 9]) {
    t.is(errnoName(version(guest, command, 0x7fff_f000)), '-EFAULT', `command ${command}`);
  }
});
