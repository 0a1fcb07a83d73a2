import test from 'ava';
import fc from 'fast-check';
import { deliver, EventBits, VcpuUpcall, type Place } from '../../../shim/event-channel/two-level.js';
import { PortTable } from '../../../shim/event-channel/port-table.js';

function page(): Place {
  const buffer = new ArrayBuffer(8192);
  return { u8: new Uint8Array(buffer), i32: new Int32Array(buffer), at: 4096 };
}

const at = (place: Place, vcpu: number): Place => ({ ...place, at: place.at + vcpu * 64 });

test('an event of a 64-bit guest sets its pending bit, its selector bit and the upcall flag', (t) => {
  const place = page();
  const view = new DataView(place.u8.buffer, 4096);
  t.is(deliver(new EventBits(place, true), new VcpuUpcall(at(place, 3), true), 4095), 'raised');
  t.is(view.getUint8(2048 + 511), 0x80);
  t.is(view.getBigUint64(3 * 64 + 8, true), 1n << 63n);
  t.is(view.getUint8(3 * 64), 1);
  t.is(view.getUint8(3 * 64 + 1), 0, 'the mask byte is the guest’s');
});

test('an event of a 32-bit guest uses 32-bit words', (t) => {
  const place = page();
  const view = new DataView(place.u8.buffer, 4096);
  t.is(deliver(new EventBits(place, false), new VcpuUpcall(at(place, 0), false), 1023), 'raised');
  t.is(view.getUint8(2048 + 127), 0x80);
  t.is(view.getUint32(4, true), 0x8000_0000);
});

test('a second event finds the first pending; another of the same word finds it selected', (t) => {
  const place = page();
  const bits = new EventBits(place, true);
  const upcall = new VcpuUpcall(place, true);
  t.is(deliver(bits, upcall, 5), 'raised');
  t.is(deliver(bits, upcall, 5), 'already-pending');
  t.is(deliver(bits, upcall, 6), 'selected');
  t.is(deliver(bits, upcall, 64), 'raised', 'another word: another bit of the selector');
});

test('a masked event, and one without a vcpu_info, set the pending bit only', (t) => {
  const place = page();
  const bits = new EventBits(place, true);
  place.u8[4096 + 2560] = 1 << 5;
  t.is(deliver(bits, new VcpuUpcall(place, true), 5), 'masked');
  t.is(deliver(bits, undefined, 6), 'nowhere');
  t.is(place.u8[4096 + 2048], (1 << 5) | (1 << 6));
  t.is(place.u8[4096], 0);
});

test('a port beyond the layout touches nothing', (t) => {
  const place = page();
  const before = place.u8.slice();
  t.is(deliver(new EventBits(place, false), new VcpuUpcall(place, false), 1024), 'nowhere');
  t.is(deliver(new EventBits(place, true), new VcpuUpcall(place, true), 4096), 'nowhere');
  t.deepEqual(place.u8, before);
});

test('no port’s bits touch anything but the page’s own words', (t) => {
  t.notThrows(() => fc.assert(
    fc.property(fc.boolean(), fc.nat(4095), fc.nat(31), (long, port, vcpu) => {
      const place = page();
      deliver(new EventBits(place, long), new VcpuUpcall(at(place, vcpu), long), port);
      const changed = [...place.u8.keys()].filter((i) => place.u8[i] !== 0).map((i) => i - 4096);
      if (!long && port >= 1024) return changed.length === 0;
      const selector = vcpu * 64 + (long ? 8 + (port >>> 9) : 4 + (port >>> 8));
      const expected = [vcpu * 64, selector, 2048 + (port >>> 3)];
      return changed.length === 3 && expected.every((offset) => changed.includes(offset));
    }),
  ));
});

test('ports come lowest first, from 1, up to the limit', (t) => {
  const table = new PortTable(4);
  const take = (): number | undefined => table.allocate(0, { state: 'ipi' })?.number;
  t.deepEqual([take(), take(), take(), take(), take()], [1, 2, 3, 4, undefined]);
  table.free(2);
  table.free(1);
  t.deepEqual([take(), take(), take()], [1, 2, undefined]);
  t.deepEqual([...table].map((port) => port.number), [1, 2, 3, 4]);
});
