import test from 'ava';
import fc from 'fast-check';
import { FifoEvents } from '../../../shim/event-channel/fifo.js';
import type { Place } from '../../../shim/event-channel/two-level.js';
import { BUSY, FifoGuest, LINKED, LINK_MASK, PENDING } from '../../helpers/fifo-guest.js';

const VCPUS = 2;

/** Event words in `pages` pages, and a control block a vCPU in the page after them. */
function setUp(pages = 1): { fifo: FifoEvents; guest: FifoGuest; page: (n: number) => Place; i32: Int32Array } {
  const buffer = new SharedArrayBuffer((pages + 1) * 4096);
  const u8 = new Uint8Array(buffer);
  const i32 = new Int32Array(buffer);
  const page = (n: number): Place => ({ u8, i32, at: n * 4096 });
  const control = (vcpu: number): Place => ({ u8, i32, at: pages * 4096 + vcpu * 128 });
  const fifo = new FifoEvents();
  for (let vcpu = 0; vcpu < VCPUS; vcpu++) fifo.addControl(vcpu, control(vcpu));
  for (let n = 0; n < pages; n++) fifo.addPage(page(n));
  return { fifo, i32, page, guest: new FifoGuest((port) => ({ i32, at: port }), control) };
}

test('an event goes into an empty queue, and the vCPU has to be told once', (t) => {
  const { fifo, guest, i32 } = setUp();
  t.true(fifo.raise(5, 0));
  t.is(guest.word(5), PENDING | LINKED);
  t.is(i32[1024], 1 << 7, 'ready: the default priority');
  t.is(i32[1024 + 2 + 7], 5, 'head');
  t.false(fifo.raise(5, 0), 'pending already');
  t.false(fifo.raise(6, 0), 'the queue is known to have something');
  t.is(guest.word(5) & LINK_MASK, 6);
  t.true(guest.upcall(0));
  t.deepEqual(guest.handled, [5, 6]);
  t.is(guest.word(5) | guest.word(6), 0);
});

test('events come in order of priority, and within one in the order they were sent', (t) => {
  const { fifo, guest } = setUp();
  for (const [port, priority] of [[10, 15], [11, 0], [12, 7], [13, 0], [14, 15]] as const) {
    fifo.setPriority(port, priority);
    fifo.raise(port, 0);
  }
  guest.upcall(0);
  t.deepEqual(guest.handled, [11, 13, 12, 10, 14]);
});

test('a masked event is pending and in no queue until it is unmasked', (t) => {
  const { fifo, guest } = setUp();
  guest.mask(3);
  t.false(fifo.raise(3, 0));
  t.true(fifo.pending(3));
  t.false(fifo.ready(0));
  t.false(guest.unmask(3), 'the kernel has to ask');
  t.true(fifo.unmask(3));
  t.true(fifo.raise(3, 0));
  guest.upcall(0);
  t.deepEqual(guest.handled, [3]);
});

test('events before the page of their words are there are given back when it comes', (t) => {
  const { fifo, guest, page } = setUp(2);
  const late = new FifoEvents();
  late.addControl(0, { ...page(2), at: 2 * 4096 });
  late.addPage(page(0));
  t.false(late.raise(1500, 0));
  t.false(late.raise(2500, 0));
  t.true(late.pending(1500));
  t.false(late.pending(1501));
  t.deepEqual(late.addPage(page(1)), [1500], 'the other one belongs to a page still missing');
  t.true(late.raise(1500, 0));
  guest.upcall(0);
  t.deepEqual(guest.handled, [1500]);
  t.is(fifo.ports, 2048);
});

test('a port that notifies another vCPU goes to that one’s queues, and the old end is not linked to', (t) => {
  const { fifo, guest } = setUp();
  fifo.raise(4, 0);
  guest.upcall(0);
  t.true(fifo.raise(4, 1), 'moved');
  t.true(fifo.raise(5, 0), 'the old queue begins anew though port 4 is linked again');
  t.is(guest.word(4) & LINK_MASK, 0);
  guest.upcall(0);
  guest.upcall(1);
  t.deepEqual(guest.handled, [4, 5, 4]);
});

test('a vCPU without a control block gets no event, and no harm is done', (t) => {
  const { fifo, guest } = setUp();
  t.false(fifo.raise(9, 7));
  t.is(guest.word(9), PENDING);
});

test('a port is busy while the guest has it in a queue, pending or not', (t) => {
  const { fifo, guest } = setUp();
  fifo.raise(8, 0);
  fifo.clearPending(8);
  t.true(fifo.busy(8));
  guest.upcall(0);
  t.false(fifo.busy(8));
  t.deepEqual(guest.handled, [], 'what is not pending is passed over');
});

/** Calls `change` before every compare-and-exchange `body` makes: a guest on another CPU. Returns how many there were. */
function amidst(body: () => void, change: (words: Int32Array, at: number) => void): number {
  const atomics = Atomics as { compareExchange: unknown };
  const exchange = Atomics.compareExchange;
  let count = 0;
  atomics.compareExchange = (words: Int32Array, at: number, ...values: [number, number]) => {
    count++;
    change(words, at);
    return exchange(words, at, ...values);
  };
  try {
    body();
  } finally {
    atomics.compareExchange = exchange;
  }
  return count;
}

test('E34: words full of garbage, links in circles: an event costs one step, for no link is ever followed', (t) => {
  const { fifo, i32 } = setUp();
  for (let port = 0; port < 1024; port++) i32[port] = ((port * 7 + 1) & LINK_MASK) | (port % 3 === 0 ? LINKED : 0);
  i32[1024] = -1;
  for (let word = 2; word < 18; word++) i32[1024 + word] = 0x7fff_ffff;
  const steps = amidst(() => {
    for (let round = 0; round < 10; round++) for (let port = 1; port < 1024; port++) fifo.raise(port, round & 1);
  }, () => {});
  t.true(steps > 0 && steps <= 10 * 1023, `${steps} steps`);
  for (let port = 1; port < 1024; port++) t.true(fifo.pending(port));
});

test('E34: the end of a queue is what was appended, whatever the guest writes into links and heads', (t) => {
  const { fifo, i32, guest } = setUp();
  fifo.raise(20, 0);
  i32[20] = PENDING | LINKED | 0x1_ffff;
  i32[1024 + 2 + 7] = 0x1_ffff;
  fifo.raise(21, 0);
  t.is(guest.word(20) & LINK_MASK, 21, 'the garbage is overwritten');
  i32[21] = 0;
  t.false(fifo.raise(22, 0), 'taken off by the guest: the next one is a head again, of a queue that is ready anyway');
  t.is(i32[1024 + 2 + 7], 22);
});

test('E34: a guest that changes the last word at every try makes itself lose a link, and holds nobody up', (t) => {
  const { fifo, i32, guest } = setUp();
  fifo.raise(30, 0);
  const tries = amidst(() => fifo.raise(31, 0), (words, at) => (words[at]! ^= 1));
  t.is(tries, 5);
  t.is(i32[30]! & BUSY, 0, 'the word is not left busy');
  t.is(guest.word(31), PENDING | LINKED);
});

/** What can happen on either side, as fast-check picks it. */
const action = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const), port: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('upcall' as const), port: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('mask' as const), port: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('unmask' as const), port: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('move' as const), port: fc.integer({ min: 1, max: 12 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('priority' as const),
      port: fc.integer({ min: 1, max: 12 }),
      to: fc.integer({ min: 0, max: 15 }),
    }),
  },
);

test('no event is lost and none is made up, whatever is sent, masked, moved and handled in whichever order', (t) => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const { fifo, guest } = setUp();
      const told = [false, false];
      const vcpu = new Map<number, number>();
      /** Ports with an event the guest has not handled. */
      const due = new Set<number>();
      let handled = 0;
      const raise = (port: number): void => {
        const to = vcpu.get(port) ?? 0;
        if (fifo.raise(port, to)) told[to] = true;
      };
      const upcall = (to: number, limit: number): void => {
        // As hardware does: without an interrupt the guest does not look.
        if (!told[to]) return;
        told[to] = !guest.upcall(to, limit);
        for (; handled < guest.handled.length; handled++) {
          if (!due.delete(guest.handled[handled]!)) throw new Error(`event ${guest.handled[handled]} was never sent`);
        }
      };
      const unmask = (port: number): void => {
        if (!guest.unmask(port) && fifo.unmask(port)) raise(port);
      };
      for (const each of actions) {
        switch (each.do) {
          case 'send':
            due.add(each.port);
            raise(each.port);
            break;
          case 'upcall':
            upcall(each.port & 1, each.port);
            break;
          case 'mask':
            guest.mask(each.port);
            break;
          case 'unmask':
            unmask(each.port);
            break;
          case 'move':
            vcpu.set(each.port, 1 - (vcpu.get(each.port) ?? 0));
            break;
          case 'priority':
            fifo.setPriority(each.port, each.to);
        }
      }
      for (let port = 1; port <= 12; port++) unmask(port);
      for (const to of [0, 1]) upcall(to, Infinity);
      t.deepEqual([...due], []);
      for (let port = 1; port <= 12; port++) if (guest.word(port) !== 0) throw new Error(`port ${port} is left behind`);
    }),
    { numRuns: 2000 },
  );
});
