import test from 'ava';
import fc from 'fast-check';

import { DUPLICATE, NOT_THERE, PersistentGrants, PURGE_INTERVAL_MS, TABLE_FULL } from '../../../backends/block/persistent.js';
import { ramWindow } from '../../../shim/memory/guest-memory.js';

const window = ramWindow(0, new ArrayBuffer(4096), 0);

/** The same in the plainest way: a map, searched and sorted. */
class Model {
  readonly grants = new Map<number, { handle: number; used: boolean; at: number }>();
  overflow = false;

  constructor(
    readonly max: number,
    readonly unusedMs: number,
  ) {}

  take(gref: number): boolean {
    const grant = this.grants.get(gref);
    if (grant === undefined || grant.used) return false;
    grant.used = true;
    return true;
  }

  insert(gref: number, handle: number, at: number): 'kept' | 'full' | 'duplicate' {
    if (this.grants.size === this.max) {
      this.overflow = true;
      return 'full';
    }
    if (this.grants.has(gref)) return 'duplicate';
    this.grants.set(gref, { handle, used: true, at });
    return 'kept';
  }

  purge(now: number): number[] {
    const idle = [...this.grants].filter(([, { used }]) => !used).sort(([, a], [, b]) => a.at - b.at);
    const wanted = this.overflow && this.grants.size === this.max ? Math.floor(this.max / 100) * 5 : 0;
    const gone = idle.filter(([, { at }], i) => i < wanted || now - at >= this.unusedMs);
    for (const [gref] of gone) this.grants.delete(gref);
    if (gone.length > 0) this.overflow = false;
    return gone.map(([, { handle }]) => handle);
  }
}

/** Few values that collide in every way, and any others. */
const gref = fc.oneof({ weight: 4, arbitrary: fc.nat(300) }, fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }));

test('the table of persistent grants does what a map would', (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 7, 100, 220),
      fc.array(fc.tuple(fc.constantFrom('map', 'map', 'map', 'put', 'wait', 'purge'), gref, fc.nat(40)), { maxLength: 600 }),
      (max, steps) => {
        const table = new PersistentGrants(max, 50);
        const model = new Model(max, 50);
        const used = new Map<number, number>();
        let now = 0;
        let handle = 1000;
        let lastPurge = -Infinity;
        for (const [step, ref, ms] of steps) {
          // Strictly later: which of two uses at the same moment was the older one says only the table.
          now += 0.001;
          if (step === 'map') {
            const record = table.take(ref);
            t.is(record >= 0, model.take(ref));
            if (record >= 0) {
              t.is(table.gref[record], ref);
              t.is(table.handle[record], model.grants.get(ref)!.handle);
              used.set(ref, record);
            } else {
              t.is(record, NOT_THERE);
              const made = table.insert(ref, ++handle, window, 8 * handle, now);
              const expected = model.insert(ref, handle, now);
              t.is(made === TABLE_FULL ? 'full' : made === DUPLICATE ? 'duplicate' : 'kept', expected);
              if (made >= 0) used.set(ref, made);
            }
          } else if (step === 'put') {
            const [which] = [...used].slice(ms % Math.max(1, used.size));
            if (which === undefined) continue;
            used.delete(which[0]);
            table.put(which[1], now);
            Object.assign(model.grants.get(which[0])!, { used: false, at: now });
          } else if (step === 'wait') {
            now += ms;
          } else {
            const early = now < table.due && !model.overflow && now >= lastPurge + PURGE_INTERVAL_MS;
            lastPurge = now;
            const gone = model.purge(now);
            table.purge(now);
            t.deepEqual([...table.purged.subarray(0, table.purgedCount)], gone);
            // Nothing would have been kept too long by waiting until `due`.
            if (early && gone.length > 0) t.fail('a purge before it was due found something');
          }
          t.is(table.count, model.grants.size);
          t.is(table.inUse, used.size);
          t.is(table.overflow, model.overflow);
          t.is(table.due === Infinity, model.grants.size === 0);
        }
        for (const record of used.values()) table.put(record, now);
        table.purgeAll();
        t.is(table.count, 0);
        t.deepEqual([...table.purged.subarray(0, table.purgedCount)].sort(), [...model.grants.values()].map((grant) => grant.handle).sort());
      },
    ),
    { numRuns: 300 },
  );
});

test('a grant unused for a minute is due then, and one in use never is', (t) => {
  const table = new PersistentGrants();
  t.is(table.due, Infinity);
  const record = table.insert(9, 1, window, 0, 1000);
  t.is(table.due, 61_000);
  table.purge(61_000);
  t.is(table.count, 1);
  table.put(record, 62_000);
  table.purge(121_999);
  t.is(table.count, 1);
  t.is(table.due, 122_099);
  table.purge(122_099);
  t.deepEqual([table.count, table.due], [0, Infinity]);
});

test('a table that overflows is due after the interval, and then gives up a twentieth, the least recently used', (t) => {
  const table = new PersistentGrants();
  for (let gref = 0; gref < 1056; gref++) t.true(table.insert(gref, gref, window, 0, 1001) >= 0);
  for (let gref = 1055; gref >= 0; gref--) table.put(gref, 1002 + (1055 - gref));
  t.is(table.insert(5000, 1, window, 0, 1010), TABLE_FULL);
  t.true(table.overflow);
  t.is(table.due, 1110);
  table.purge(2100);
  t.deepEqual([...table.purged.subarray(0, table.purgedCount)], Array.from({ length: 50 }, (_, i) => 1055 - i));
  t.is(table.count, 1006);
  t.false(table.overflow);
});
