import test from 'ava';
import fc from 'fast-check';
import { Errno } from '../../../shim/abi/errno.js';
import { GuestMemory, PAGE_SIZE, ramWindow } from '../../../shim/memory/guest-memory.js';
import { createFrames, Frames } from '../../../shim/memory/frames.js';
import { P2m } from '../../../shim/memory/p2m.js';

const handles = createFrames(0x100010);
const frames = new Frames(handles);
frames.count([]);

/** All share the frames; each begins with all of them. */
const make = (): P2m => {
  const memory = new GuestMemory([
    ramWindow(0, new ArrayBuffer(64 * PAGE_SIZE), 0),
    ramWindow(0x100000, new ArrayBuffer(16 * PAGE_SIZE), 0),
  ]);
  memory.frames = frames;
  frames.restoreAll();
  return new P2m(memory, ramWindow(0, new ArrayBuffer(4 * PAGE_SIZE), 0));
};

test('E97: frames above 4 GiB are in their window; 2^40 and beyond are holes', (t) => {
  const p2m = make();
  t.is(p2m.kind(0x100003), 'ram');
  t.is(p2m.locate(0x100003)?.at, 3 * PAGE_SIZE);
  for (const gfn of [64, 0xfffff, 0x100010, 2 ** 40, 2 ** 52, 2 ** 53, -1, NaN, Infinity]) {
    t.is(p2m.kind(gfn), 'hole', `${gfn}`);
    t.is(p2m.locate(gfn), undefined);
  }
});

test('a page of ours hides nothing but the hole it lies over', (t) => {
  const p2m = make();
  p2m.lay(200, 2);
  t.is(p2m.kind(200), 'own');
  t.is(p2m.locate(200)?.at, 2 * PAGE_SIZE);
  t.is(p2m.shownAt(2), 200);
  t.is(p2m.maxGfn, 0x10000f);
  t.is(p2m.lift(200), 2);
  t.is(p2m.lift(200), undefined);
  t.is(p2m.kind(200), 'hole');
  t.is(p2m.shownAt(2), undefined);
});

test('reads and writes cross from RAM to a page of ours and stop at a hole', (t) => {
  const p2m = make();
  p2m.lay(64, 1);
  const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
  t.true(p2m.write(64 * PAGE_SIZE - 50, bytes));
  const back = new Uint8Array(100);
  t.true(p2m.read(64 * PAGE_SIZE - 50, back));
  t.deepEqual(back, bytes);
  t.is(p2m.ownPlace(1).u8[PAGE_SIZE], 50);
  t.false(p2m.read(65 * PAGE_SIZE - 50, back));
  t.false(p2m.write(65 * PAGE_SIZE - 50, bytes));
  for (const gpa of [-1, NaN, 2 ** 53, 2 ** 60]) t.false(p2m.read(gpa, back));
  p2m.frames.release(10);
  t.false(p2m.read(10 * PAGE_SIZE, back));
});

test.serial('any sequence of giving back and asking for keeps count', (t) => {
  t.notThrows(() => fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 63 })), { maxLength: 200 }), (steps) => {
      const p2m = make();
      const gone = new Set<number>();
      for (const [release, gfn] of steps) {
        if (release && p2m.kind(gfn) === 'ram') {
          p2m.frames.release(gfn);
          gone.add(gfn);
        } else if (!release && p2m.kind(gfn) === 'hole') {
          p2m.frames.restore(gfn);
          gone.delete(gfn);
        }
      }
      return (
        p2m.currentPages === 80 - gone.size &&
        Array.from({ length: 64 }, (_, gfn) => gfn).every((gfn) => (p2m.kind(gfn) === 'hole') === gone.has(gfn))
      );
    }),
  ));
});

test.serial('a lookup says what a frame is; asking for it changes only what is paged out', (t) => {
  const p2m = make();
  p2m.lay(200, 2);
  p2m.frames.release(7);
  t.deepEqual([3, 7, 200, 300].map((gfn) => p2m.lookupQuery(gfn)), ['ram', 'hole', 'overlay', 'mmio']);
  t.deepEqual([3, 7, 200, 300].map((gfn) => p2m.lookupAlloc(gfn)), [0, -Errno.EINVAL, 0, -Errno.EPERM]);
  t.is(p2m.lookupQuery(7), 'hole');
  t.is(p2m.frames.pins(3), 0);
});

test.serial('a structure of ours in a frame given back makes it RAM until the structure has moved away', (t) => {
  const p2m = make();
  p2m.frames.release(7);
  p2m.borrow(7);
  t.is(p2m.kind(7), 'ram');
  t.is(p2m.frames.pins(7), 1);
  t.is(p2m.currentPages, 80);
  p2m.unborrow(7);
  t.is(p2m.kind(7), 'hole');
  t.is(p2m.frames.pins(7), 0);
});
