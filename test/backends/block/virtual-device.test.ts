import test from 'ava';
import fc from 'fast-check';

import { diskIndex, diskNumber, freeDevice, MAX_DISKS, virtualDevice } from '../../../backends/block/virtual-device.js';

test('disks are numbered as frontends expect them', (t) => {
  t.deepEqual(virtualDevice(0), { name: 'xvda', number: 51712 });
  t.deepEqual(virtualDevice(1), { name: 'xvdb', number: 51728 });
  t.deepEqual(virtualDevice(15), { name: 'xvdp', number: 51952 });
  t.deepEqual(virtualDevice(16), { name: 'xvdq', number: (1 << 28) | (16 << 8) });
  t.is(virtualDevice(25).name, 'xvdz');
  t.is(virtualDevice(26).name, 'xvdaa');
  t.throws(() => virtualDevice(-1), { instanceOf: RangeError });
  t.throws(() => virtualDevice(MAX_DISKS), { instanceOf: RangeError });
});

test('a name and its index belong to each other', (t) => {
  fc.assert(
    fc.property(fc.nat(MAX_DISKS - 1), (index) => {
      t.is(diskIndex(virtualDevice(index).name), index);
    }),
  );
  for (const name of ['xvd', 'xvda1', 'sda', 'xvdA', 'xvdzzzzz', 'xvdaaaaaa']) t.is(diskIndex(name), undefined);
});

test('names of IDE and SCSI disks have the numbers of their majors', (t) => {
  for (const [name, number] of [
    ['xvdb', 51728], ['hda', 768], ['hdb', 832], ['hdc', 5632], ['hdd', 5696], ['sda', 2048], ['sdp', 2288],
  ] as const) {
    t.is(diskNumber(name), number, name);
  }
  for (const name of ['hde', 'sdq', 'hda1', 'hd', 'vda', 'd0', '']) t.is(diskNumber(name), undefined, name);
});

test('the next free disk is the first whose number nobody has', (t) => {
  t.is(freeDevice([]).name, 'xvda');
  t.is(freeDevice([virtualDevice(0), virtualDevice(2), { name: 'hda', number: 768 }]).name, 'xvdb');
});
