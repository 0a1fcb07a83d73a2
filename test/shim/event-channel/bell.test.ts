/**
 * How a vCPU is told of FIFO events while the kernel is still busy with the last time: delivery clears the bell's bits
 * and posts another ring, and the kernel carries rings out later, a step at a time, at any point between.
 */
import test from 'ava';
import fc from 'fast-check';
import { EventAreas } from '../../../shim/event-channel/areas.js';
import { Delivery } from '../../../shim/event-channel/delivery.js';
import { FifoEvents } from '../../../shim/event-channel/fifo.js';
import type { Port } from '../../../shim/event-channel/port-table.js';
import type { EventBits, Place, VcpuUpcall } from '../../../shim/event-channel/two-level.js';
import { FifoGuest } from '../../helpers/fifo-guest.js';

/** The kernel's way of raising a 2-level event (kvm_xen_set_evtchn_fast), cut at each of its atomic steps. */
function* ring(bits: EventBits, upcall: VcpuUpcall, port: number): Generator<void> {
  if (bits.setPending(port)) return;
  yield;
  if (bits.masked(port)) return;
  yield;
  const { i32, at } = upcall.place;
  const select = (at + 8) >>> 2;
  if ((Atomics.or(i32, select + (port >>> 11), 1 << ((port >>> 6) & 31)) & (1 << ((port >>> 6) & 31))) !== 0) return;
  yield;
  upcall.raise();
}

/** Shared page, page of event words, control block. */
function setUp(): { delivery: Delivery; guest: FifoGuest; upcall: VcpuUpcall; steps: (count: number) => void } {
  const buffer = new SharedArrayBuffer(3 * 4096);
  const u8 = new Uint8Array(buffer);
  const i32 = new Int32Array(buffer);
  const page = (n: number): Place => ({ u8, i32, at: n * 4096 });
  const areas = new EventAreas(page(0), true);
  areas.moveSharedInfo(page(0), true);
  const upcall = areas.upcall(0)!;
  const rings: Generator<void>[] = [];
  const delivery = new Delivery({ raise: (port) => rings.push(ring(areas.bits, upcall, port)) }, areas);
  const fifo = new FifoEvents();
  fifo.addControl(0, page(2));
  fifo.addPage(page(1));
  delivery.fifo = fifo;
  return {
    delivery,
    upcall,
    guest: new FifoGuest((port) => ({ i32, at: 1024 + port }), () => page(2)),
    // Posted in order, carried out in order.
    steps(count) {
      for (; count > 0 && rings.length > 0; count--) if (rings[0]!.next().done === true) rings.shift();
    },
  };
}

const port = (number: number): Port => ({ number, boundVcpu: 0, vcpu: 0, binding: { state: 'ipi' } });

test('whenever the kernel gets round to it, a guest that only looks when it is interrupted misses no event', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.boolean(), fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 8 }))),
      (rounds) => {
        const { delivery, guest, upcall, steps } = setUp();
        let sent = new Set<number>();
        const look = (): void => {
          if (!upcall.pending) return;
          Atomics.and(upcall.place.i32, upcall.place.at >>> 2, ~0xff);
          const before = guest.handled.length;
          guest.upcall(0);
          for (const handled of guest.handled.slice(before)) sent.delete(handled);
        };
        for (const [number, looks, when] of rounds) {
          sent.add(number);
          // Between any two of delivery's own steps the kernel takes some of its.
          const schedule = [...when];
          const { and, or, store } = Atomics;
          const between = <A extends unknown[], R>(real: (...args: A) => R) => (...args: A): R => {
            const count = schedule.shift() ?? 0;
            Object.assign(Atomics, { and, or, store });
            steps(count);
            Object.assign(Atomics, hooked);
            return real(...args);
          };
          const hooked = {
            and: between(and as (...args: unknown[]) => number),
            or: between(or as (...args: unknown[]) => number),
            store: between(store as (...args: unknown[]) => number),
          };
          Object.assign(Atomics, hooked);
          try {
            delivery.raise(port(number));
          } finally {
            Object.assign(Atomics, { and, or, store });
          }
          if (looks) look();
        }
        steps(Infinity);
        look();
        t.deepEqual([...sent], []);
        sent = new Set();
      },
    ),
    { numRuns: 3000 },
  );
});

test('a ring the kernel has not carried out does not keep the next from being heard', (t) => {
  const { delivery, guest, upcall, steps } = setUp();
  delivery.raise(port(1));
  guest.upcall(0);
  delivery.raise(port(2));
  steps(Infinity);
  t.true(upcall.pending);
  guest.upcall(0);
  t.deepEqual(guest.handled, [1, 2]);
});
