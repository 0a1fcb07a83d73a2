import test from 'ava';
import fc from 'fast-check';

import { LEFT_ALONE, HandleBatch, PAGE_OP_SHIFT, PageBatch, PageOp } from '../../../shim/grant-table/page-batch.js';
import { FakeGuest, GTF_PERMIT, GTF_READING, GTF_READONLY, GTF_WRITING, HIGH_GFN } from '../../helpers/fake-frontend-guest.js';

const REFS = 24;
const PAGES = 16;
const BATCH = 12;

/** What a guest may have written into an entry. */
const entry = fc.record({
  ref: fc.integer({ min: 8, max: 8 + REFS - 1 }),
  gfn: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: PAGES - 1 }) },
    { weight: 3, arbitrary: fc.integer({ min: HIGH_GFN, max: HIGH_GFN + PAGES - 1 }) },
    fc.constantFrom(PAGES, HIGH_GFN + PAGES, HIGH_GFN - 1, 0x7fff_ffff, -1, -(2 ** 31)),
  ),
  flags: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(GTF_PERMIT, GTF_PERMIT | GTF_READONLY, GTF_PERMIT | 0x20, GTF_PERMIT | 0xc4) },
    fc.constantFrom(0, 2, 3, GTF_PERMIT | GTF_READING, GTF_PERMIT | GTF_WRITING, GTF_PERMIT | 0x100, 0x8000 | GTF_PERMIT),
  ),
  domid: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, fc.constantFrom(1, 0x7ff0)),
});

const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), entry }),
  fc.record({
    kind: fc.constant('map' as const),
    ops: fc.array(
      fc.tuple(
        fc.oneof({ weight: 12, arbitrary: fc.integer({ min: 8, max: 8 + REFS - 1 }) }, fc.constantFrom(-1, 16 * 512, 0x7fff_ffff, -(2 ** 31))),
        fc.boolean(),
      ),
      { maxLength: BATCH },
    ),
  }),
  // Which of the handles given out so far; those already ended among them.
  fc.record({ kind: fc.constant('unmap' as const), which: fc.array(fc.nat(), { maxLength: BATCH }) }),
);

/** A guest whose grants go through batches of native code, or one by one through TypeScript. */
class Side {
  readonly guest = new FakeGuest(PAGES);
  readonly handles: number[] = [];
  readonly #pages = new PageBatch(BATCH);
  readonly #ended = new HandleBatch(BATCH);

  constructor(readonly quick: boolean) {
    for (let ref = 8; ref < 8 + REFS; ref++) this.guest.setEntry(ref, ref % PAGES, GTF_PERMIT);
  }

  /** Status and place of each op. */
  map(ops: readonly (readonly [number, boolean])[]): unknown[] {
    const { attached } = this.guest;
    if (!this.quick) {
      return ops.map(([ref, readonly]) => {
        let place: unknown;
        const handle = attached.grants.mapOne(ref, readonly, 0, (_, window, offset) => {
          place = [window.gfn, offset];
        });
        if (handle >= 0) this.handles.push(handle);
        return handle >= 0 ? place : handle;
      });
    }
    this.#pages.count = 0;
    for (const [ref, readonly] of ops) this.#pages.add(ref, readonly, 0);
    const failed = attached.grants.mapPages(this.#pages);
    const results = ops.map((_, i) => this.#result(i));
    if (results.filter((result) => typeof result === 'number').length !== failed) throw new Error(`${failed} said to have failed`);
    return results;
  }

  #result(op: number): unknown {
    const { words } = this.#pages;
    const at = op << PAGE_OP_SHIFT;
    const status = words[at + PageOp.STATUS]!;
    if (status !== 0) return status;
    this.handles.push(words[at + PageOp.HANDLE]!);
    const hva = words[at + PageOp.HVA_HI]! * 2 ** 32 + (words[at + PageOp.HVA_LO]! >>> 0);
    const window = this.guest.attached.memory.windows.find((each) => hva >= each.hva && hva < each.hva + each.pages * 4096);
    return window === undefined ? 'outside RAM' : [window.gfn, hva - window.hva];
  }

  unmap(handles: readonly number[]): void {
    const { grants } = this.guest.attached;
    if (!this.quick) {
      for (const handle of handles) grants.unmapOne(handle);
      return;
    }
    this.#ended.count = handles.length;
    this.#ended.handle.set(handles);
    grants.unmapHandles(this.#ended);
  }

  state(): unknown {
    const { attached } = this.guest;
    const entries = Array.from({ length: REFS }, (_, i) => [this.guest.flags(8 + i), attached.grantTable.active.pins(8 + i)]);
    return { entries, stats: this.guest.stats() };
  }

  close(): void {
    this.#pages.free();
    this.#ended.free();
    this.guest.close();
  }
}

test('batches of native code do what one map and unmap after the other does, whatever the guest writes', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const sides = [new Side(true), new Side(false)] as const;
      try {
        for (const each of steps) {
          if (each.kind === 'write') {
            const { ref, gfn, flags, domid } = each.entry;
            for (const { guest } of sides) guest.setEntry(ref, gfn, flags, domid);
          } else if (each.kind === 'map') {
            const [quick, slow] = sides.map((side) => side.map(each.ops));
            t.deepEqual(quick, slow);
          } else {
            for (const side of sides) {
              if (side.handles.length > 0) side.unmap(each.which.map((n) => side.handles[n % side.handles.length]!));
            }
          }
          t.deepEqual(sides[0].state(), sides[1].state());
        }
      } finally {
        for (const side of sides) side.close();
      }
    }),
    { numRuns: 150 },
  );
});

test('the page of an op is handed over on demand, wherever it is, as a map of its own would hand it over', (t) => {
  const guest = new FakeGuest(PAGES);
  const { grants } = guest.attached;
  const batch = new PageBatch(4);
  // Two in native code, one that is pinned already, and one of our own pages, which TypeScript maps.
  const refs = [guest.grant(3), guest.grant(HIGH_GFN + PAGES - 1), guest.grant(5), guest.grant(0x2_0000)];
  guest.attached.grantTable.showOwnPage(2, 0x2_0000);
  grants.mapOne(refs[2]!, true, 0, () => {});
  refs.forEach((ref, i) => {
    batch.add(ref, true, i + 1);
  });
  t.is(grants.mapPages(batch), 0);
  refs.forEach((ref, i) => {
    const seen: unknown[][] = [];
    grants.handOverPage(batch, i, (...page) => seen.push(page));
    grants.mapOne(ref, true, i + 1, (...page) => seen.push(page));
    t.is(seen.length, 2);
    t.deepEqual(seen[0], seen[1]);
    t.is(seen[0]![1], seen[1]![1]);
  });
  batch.free();
  guest.close();
});

test('a handle of another generation, of nobody, or negative ends no mapping', (t) => {
  const side = new Side(true);
  side.map([[8, false], [9, true]]);
  const [first] = side.handles;
  side.unmap([first!]);
  side.map([[10, false]]);
  side.unmap([first!, -1, 2 ** 18 - 1, first! | (0xfff << 18), -(2 ** 31)]);
  t.is(side.guest.flags(9), GTF_PERMIT | GTF_READING);
  t.is(side.guest.flags(10), GTF_PERMIT | GTF_READING | GTF_WRITING);
  side.unmap(side.handles.slice(1));
  t.is(side.guest.stats().handles, 0);
  side.close();
});

test('a table that is going away gives nothing out and takes everything back', (t) => {
  const side = new Side(true);
  side.map([[8, false]]);
  side.guest.attached.grantTable.teardown();
  t.deepEqual(side.map([[9, false]]), [-2]);
  side.unmap(side.handles);
  t.is(side.guest.stats().handles, 0);
  side.close();
});

test('more grants than a thread has free handles are mapped all the same', (t) => {
  const guest = new FakeGuest(PAGES);
  const batch = new PageBatch(2000);
  const handles = new HandleBatch(2000);
  for (let i = 0; i < 2000; i++) batch.add(guest.grant(i % PAGES), false, i);
  t.is(guest.attached.grants.mapPages(batch), 0);
  for (let i = 0; i < 2000; i++) {
    const at = i << PAGE_OP_SHIFT;
    t.not(batch.words[at + PageOp.STATUS], LEFT_ALONE);
    handles.handle[handles.count++] = batch.words[at + PageOp.HANDLE]!;
  }
  t.is(new Set(handles.handle).size, 2000);
  guest.attached.grants.unmapHandles(handles);
  t.is(guest.stats().handles, 0);
  t.is(guest.stats().pinnedRefs, 0);
  batch.free();
  handles.free();
  guest.close();
});
