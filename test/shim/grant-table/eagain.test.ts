import test from 'ava';
import { Gntst } from '../../../shim/abi/grant-table.js';
import { MapBatch } from '../../../shim/grant-table/foreign.js';
import { gnttabMapRefs } from '../../../shim/grant-table/map-refs.js';
import { QueuedMaps } from '../../../shim/grant-table/queued-maps.js';
import { retryEagain, timerSleep, type Sleep } from '../../../shim/grant-table/retry.js';
import { silentLog, type Log } from '../../../shim/observe/log.js';
import { fixture, LOW_GFN, PERMIT, READING, WRITING, type Fixture } from './fixture.js';

function collect(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  return { lines, log: { ...silentLog, warn: (_fields, message) => lines.push(message) } };
}

/** Eight grants in a batch; frame of op 3 answers eagain for the first `absent` lookups. */
function pagedOut(absent: number): { f: Fixture; batch: MapBatch; lookups: Map<number, number> } {
  const f = fixture();
  const batch = new MapBatch(8);
  const lookups = new Map<number, number>();
  for (let i = 0; i < 8; i++) {
    f.grant(8 + i, LOW_GFN + i);
    batch.add(8 + i, false, 100 + i);
  }
  f.table.frames.residency = {
    idle: false,
    pin: (gfn) => {
      const count = (lookups.get(gfn) ?? 0) + 1;
      lookups.set(gfn, count);
      return gfn === LOW_GFN + 3 && count <= absent ? Gntst.eagain : Gntst.okay;
    },
    unpin: () => {},
    wrote: () => {},
  };
  return { f, batch, lookups };
}

const options = (sleep: Sleep, log = silentLog, signal = new AbortController().signal) => ({
  func: 'xen_blkbk_map',
  who: 'vbd-51712',
  signal,
  log,
  sleep,
});

test('E09: a map of an evicted page is eagain, leaves no bit, and succeeds once the page is back', (t) => {
  const { f } = pagedOut(1);
  t.is(f.grants.mapOne(11, false, 0, () => {}) >= 0, true, 'the immediate second attempt finds it');
  const again = pagedOut(2).f;
  t.is(again.grants.mapOne(11, false, 0, () => {}), Gntst.eagain);
  t.is(again.flags(11), PERMIT);
  t.true(again.grants.mapOne(11, false, 0, () => {}) >= 0);
});

test('E10: a page that never returns is tried 256 times over 32.64 s and then is bad_page, with one line', async (t) => {
  const { f, batch, lookups } = pagedOut(Infinity);
  const { log, lines } = collect();
  const sleeps: number[] = [];
  gnttabMapRefs(f.table, batch, null, null, 8);
  const sleep: Sleep = (ms) => {
    sleeps.push(ms);
    return Promise.resolve();
  };
  t.is(await retryEagain(f.table, batch, null, 8, options(sleep, log)), 1);
  t.is(batch.status[3], Gntst.bad_page);
  t.is(batch.handle[3], -1);
  t.is(lookups.get(LOW_GFN + 3), 256);
  t.deepEqual(sleeps, Array.from({ length: 255 }, (_, i) => i + 1));
  t.is(
    sleeps.reduce((sum, ms) => sum + ms),
    32_640,
  );
  t.deepEqual(lines, ['xen_blkbk_map: vbd-51712 eagain grant']);
  t.is(f.flags(11), PERMIT);
});

test('E10: success at the 256th attempt counts, and other work goes on between attempts', async (t) => {
  const { f, batch } = pagedOut(255);
  const { log, lines } = collect();
  gnttabMapRefs(f.table, batch, null, null, 8);
  f.grant(40, LOW_GFN + 30);
  let others = 0;
  const sleep: Sleep = () => {
    const handle = f.grants.mapOne(40, false, 0, () => {});
    if (f.grants.unmapOne(handle) === 0) others++;
    return Promise.resolve();
  };
  t.is(await retryEagain(f.table, batch, null, 8, options(sleep, log)), 0);
  t.is(batch.status[3], 0);
  t.is(others, 254);
  t.deepEqual(lines, []);
});

test('E11: when op 3 of 8 is eagain only it is issued again, and all callbacks run in order afterwards', async (t) => {
  const { f, batch, lookups } = pagedOut(3);
  const seen: number[] = [];
  t.is(
    gnttabMapRefs(f.table, batch, null, (context) => seen.push(context), 8),
    1,
  );
  t.deepEqual(seen, [], 'callbacks wait for the retries');
  const handles = [...batch.handle];
  t.is(await retryEagain(f.table, batch, (context) => seen.push(context), 8, options(() => Promise.resolve())), 0);
  t.deepEqual(seen, [100, 101, 102, 103, 104, 105, 106, 107]);
  for (let i = 0; i < 8; i++) {
    t.is(lookups.get(LOW_GFN + i), i === 3 ? 4 : 1);
    if (i !== 3) t.is(batch.handle[i], handles[i]);
  }
});

test('E12: a batch cancelled while it waits wakes at once, leaves no timer and calls nobody', async (t) => {
  const { f, batch } = pagedOut(Infinity);
  const abort = new AbortController();
  const { log, lines } = collect();
  let called = 0;
  gnttabMapRefs(f.table, batch, null, null, 8);
  const slow: Sleep = (_ms, signal) => timerSleep(60_000, signal);
  const before = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const settled = retryEagain(f.table, batch, () => called++, 8, options(slow, log, abort.signal));
  t.is(process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length, before + 1);
  abort.abort();
  t.is(await settled, 1);
  t.is(process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length, before);
  t.is(called, 0);
  t.is(batch.status[3], Gntst.bad_page);
  t.deepEqual(lines, []);
  t.is(f.grants.unmap(batch), 1);
  t.is(f.table.stats().pinnedRefs, 0);
});

test('a status other than eagain never enters the retries', async (t) => {
  const { f, batch } = pagedOut(0);
  f.grant(10, 1);
  gnttabMapRefs(f.table, batch, null, null, 8);
  const failed = await retryEagain(f.table, batch, null, 8, options(() => Promise.reject(new Error('slept'))));
  t.is(failed, 1);
  t.is(batch.status[2], Gntst.bad_page);
});

test('kmap ops pin the same grants a second time and get no callback', (t) => {
  const { f, batch } = pagedOut(0);
  const kmap = new MapBatch(8);
  for (let i = 0; i < 8; i++) kmap.add(8 + i, true, 200 + i);
  const seen: number[] = [];
  t.is(
    gnttabMapRefs(f.table, batch, kmap, (context) => seen.push(context), 8),
    0,
  );
  t.deepEqual(seen, [100, 101, 102, 103, 104, 105, 106, 107]);
  f.grants.unmap(batch);
  t.is(f.flags(8), PERMIT | READING);
  f.grants.unmap(kmap);
  t.is(f.flags(8), PERMIT);
});

test('E14: an unmap of a queued map issues the queue first; one whose map failed is not issued and gives -1', (t) => {
  const { f } = pagedOut(0);
  const { log, lines } = collect();
  const queue = new QueuedMaps(f.table, 4, log);
  const good = queue.map(8, false, 0);
  const bad = queue.map(9999, false, 0);
  t.is(f.flags(8), PERMIT, 'queued, not executed');
  t.is(queue.unmap(bad), -1);
  t.is(f.flags(8), PERMIT | READING | WRITING, 'the flush executed the other');
  t.is(queue.records.status[bad], Gntst.bad_gntref, 'the status is the map’s: no unmap was issued');
  t.is(lines.length, 1);
  const late = queue.map(9, false, 0);
  t.is(queue.unmap(late), Gntst.okay);
  t.is(f.flags(9), PERMIT);
  t.is(queue.unmap(good), Gntst.okay);
  t.is(queue.records.handle[good], -1);
  t.is(queue.unmap(good), -1, 'an ended record has nothing to unmap');
  queue.map(10, false, 0);
  t.is(queue.map(11, false, 0), -1, 'no room');
  queue.clear();
  t.is(queue.map(11, false, 0), 0);
});
