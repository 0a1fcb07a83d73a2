import test, { type ExecutionContext } from 'ava';
import { ftruncateSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../../../shim/abi/errno.js';
import { FrameState } from '../../../shim/memory/frames.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { silentLog, type Log } from '../../../shim/observe/log.js';
import { build, FIRST, PagedGuest, unavailable, type PagedGuestOptions } from './guest.js';

let program = '';
const reason = unavailable(() => (program = build('guest.cc')));
if (reason !== undefined) console.log(`the pager skipped: ${reason}`);
const pager = reason === undefined ? test.serial : test.serial.skip;

function start(t: ExecutionContext, options: PagedGuestOptions): PagedGuest {
  const guest = PagedGuest.start(program, options);
  t.teardown(() => guest.end());
  return guest;
}

function collect(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  const line = (_fields: object, message: string): void => {
    lines.push(message);
  };
  return { lines, log: { ...silentLog, error: line, info: line } };
}

const eventually = async (so: () => boolean): Promise<boolean> => {
  for (const until = performance.now() + 5000; performance.now() < until && !so(); ) await sleep(2);
  return so();
};

pager('memory of 1024 pages in 128 reads back right, and takes no more of the host than that', async (t) => {
  const guest = start(t, { pages: 1024, resident: 128 });
  t.is(await guest.tell('fill', 0, 1024), 'ok');
  t.true(guest.hostPages <= 128 + 2, `${guest.hostPages} pages`);
  t.is(await guest.tell('check', 0, 1024), 'ok');
  t.true(guest.hostPages <= 128 + 2, `${guest.hostPages} pages`);
  const stats = guest.pager.stats();
  t.true(stats.evicted >= 1024 + 896 - 256, `${stats.evicted} evictions`);
  t.true(stats.pagedIn >= 800, `${stats.pagedIn} page-ins`);
  t.is(guest.failures, 0);
});

pager('pages that are all zero go without a trace in the page file and come back zero', async (t) => {
  const guest = start(t, { pages: 256, resident: 256 });
  t.is(await guest.tell('zero', 0, 256), 'ok');
  t.is(guest.pager.out(FIRST, 256), 256);
  t.is(guest.frames.state(FIRST + 5), FrameState.UNBACKED);
  t.is(guest.hostPages, 0);
  t.is(await guest.tell('zero', 0, 256), 'ok');
  t.is(guest.pager.stats().pagedIn, 0);
});

pager('memory read in sequence comes in several pages at a time, read at random one by one', async (t) => {
  const guest = start(t, { pages: 1024, resident: 1024 });
  await guest.tell('fill', 0, 1024);
  t.is(guest.pager.out(FIRST, 1024), 1024);
  const before = guest.pager.stats().faults;
  t.is(await guest.tell('check', 0, 512), 'ok');
  const { faults } = guest.pager.stats();
  t.true(faults - before < 512 / 8, `${faults - before} faults`);
  // They are counted a moment after they are there.
  t.true(await eventually(() => guest.pager.stats().pagedIn >= 512));
  t.true(guest.pager.stats().pagedIn < 512 + 16, `${guest.pager.stats().pagedIn} page-ins`);
  await guest.tell('time', 512, 512);
  t.true(guest.pager.stats().faults - faults > 400, `${guest.pager.stats().faults - faults} faults`);
  t.is(await guest.tell('check', 0, 1024), 'ok');
});

pager('the kernel’s own accesses wait for a page as a thread’s do', async (t) => {
  const guest = start(t, { pages: 64, resident: 64 });
  await guest.tell('fill', 0, 64);
  t.is(guest.pager.out(FIRST, 64), 64);
  t.is(await guest.tell('syscall', 3, PAGE_SIZE / 2), 'ok');
  t.is(await guest.tell('zero', 3, 1), 'ok');
  t.is(await guest.tell('check', 4, 60), 'ok');
});

pager('threads that read, write and check random pages lose no byte while most of them are out', async (t) => {
  const guest = start(t, { pages: 2048, resident: 256 });
  t.is(await guest.tell('work', 3, 6000), 'ok');
  t.true(guest.pager.stats().evicted > 5000, `${guest.pager.stats().evicted} evictions`);
  t.is(guest.failures, 0);
});

pager('frames pinned and written here at random, while the guest writes their other half, keep both', async (t) => {
  const guest = start(t, { pages: 1024, resident: 128 });
  let over = false;
  const work = guest.tell('work', 2, 8000).finally(() => (over = true));
  const turns = new Uint32Array(1024);
  let again = 0;
  let wrong = 0;
  for (let seed = 1, steps = 0; !over || steps < 2000; steps++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const page = (seed >>> 12) % 1024;
    const status = guest.frames.pin(FIRST + page);
    if (status === -Errno.EAGAIN) again++;
    else if (status === 0) {
      const at = page * (PAGE_SIZE / 4) + PAGE_SIZE / 8;
      for (let word = 0; word < 8; word++) {
        const turn = turns[page]!;
        if (guest.window.i32[at + word * 60] !== (turn === 0 ? 0 : turns[page]! * 8 + word + page)) wrong++;
      }
      turns[page]!++;
      for (let word = 0; word < 8; word++) guest.window.i32[at + word * 60] = turns[page]! * 8 + word + page;
      guest.frames.unpin(FIRST + page);
    }
    if (steps % 64 === 0) await sleep(0);
  }
  t.is(await work, 'ok');
  t.is(wrong, 0);
  t.true(again > 100, `${again} lookups came again`);
  t.true(guest.pager.stats().cancelled >= 0);
  t.is(guest.failures, 0);
});

pager('a page written all the time while it is evicted again and again forgets no write', async (t) => {
  // A slow page file leaves plenty of time between a page's copy and its end.
  const guest = start(t, { pages: 64, resident: 64, slow: true });
  let over = false;
  const hammer = guest.tell('hammer', 8, 40_000_000).finally(() => (over = true));
  let evicted = 0;
  for (const until = performance.now() + 3000; performance.now() < until && !over; await sleep(0)) {
    evicted += Math.max(0, guest.pager.out(FIRST, 8));
  }
  t.is(await hammer, 'ok');
  t.true(evicted > 50, `${evicted} evictions`);
});

pager('E25: a frame with a pin is not evicted, and is once the pin is gone', async (t) => {
  const guest = start(t, { pages: 16, resident: 16 });
  await guest.tell('fill', 0, 16);
  t.is(guest.frames.pin(FIRST + 3), 0);
  t.is(guest.pager.out(FIRST + 3, 1), -Errno.EBUSY);
  t.is(guest.pager.out(FIRST, 16), 15, 'the others go');
  t.is(guest.frames.state(FIRST + 3), FrameState.RAM);
  guest.frames.unpin(FIRST + 3);
  t.is(guest.pager.out(FIRST + 3, 1), 1);
  t.is(await guest.tell('check', 0, 16), 'ok');
});

pager('E26: a hundred pins of one frame that is out are one request, and each has it afterwards', async (t) => {
  const guest = start(t, { pages: 16, resident: 16 });
  await guest.tell('fill', 0, 16);
  guest.pager.out(FIRST, 16);
  let again = 0;
  for (let i = 0; i < 100; i++) if (guest.frames.pin(FIRST + 7) === -Errno.EAGAIN) again++;
  t.true(again > 0);
  await guest.pager.resident(FIRST + 7);
  t.is(guest.frames.pin(FIRST + 7), 0);
  t.is(guest.pager.stats().requests, 1);
  t.is(guest.pager.stats().pagedIn, 1);
});

pager('E27: with the ring full a request is refused at once, and the guest’s own faults are still served', async (t) => {
  const guest = start(t, { pages: 400, resident: 400 });
  await guest.tell('fill', 0, 400);
  t.is(guest.pager.out(FIRST, 400), 400);
  // One turn of this loop asks faster than any thread reads a page from a file; backwards, as nothing is read ahead.
  let refused = 0;
  for (let page = 399; page >= 0; page--) if (guest.frames.request(FIRST + page) === -Errno.EBUSY) refused++;
  t.is(guest.pager.stats().requests + refused, 400);
  t.is(guest.pager.stats().refused, refused);
  t.is(await guest.tell('check', 0, 400), 'ok');
  t.true(await eventually(() => Array.from({ length: 400 }, (_, i) => guest.frames.state(FIRST + i)).every((s) => s === 0)));
});

pager('a page file that is full makes the guest wait, says so once, and nothing is lost', async (t) => {
  const { log, lines } = collect();
  const guest = start(t, { pages: 64, resident: 32, file: '/dev/full', log });
  t.is(await guest.tell('fill', 0, 32), 'ok');
  const more = guest.tell('fill', 32, 1);
  t.true(await eventually(() => lines.length > 0));
  t.deepEqual(lines, ['the page file cannot grow: the guest waits until it can']);
  t.is(guest.pager.out(FIRST, 1), -Errno.EAGAIN, 'an operator’s request does not wait');
  t.is(await Promise.race([more, sleep(300).then(() => 'waits')]), 'waits');
  t.is(guest.failures, 0);
  // The guest gives memory back, and there is room.
  for (let page = 0; page < 8; page++) guest.frames.release(FIRST + page);
  t.is(await more, 'ok');
  t.is(await guest.tell('check', 8, 25), 'ok');
  t.true(await eventually(() => lines.length === 2));
});

pager('E28: a page file that was cut off ends the pager with one line, the waiting guest gets no byte, we live', async (t) => {
  const { log, lines } = collect();
  const guest = start(t, { pages: 32, resident: 32, log });
  await guest.tell('fill', 0, 32);
  t.is(guest.pager.out(FIRST, 32), 32);
  ftruncateSync(guest.file, 0);
  const waits = guest.tell('check', 0, 1);
  t.true(await eventually(() => guest.failures > 0));
  t.is(await Promise.race([waits, sleep(200).then(() => 'waits')]), 'waits');
  t.is(guest.frames.failed!.gfn, FIRST);
  t.is(guest.frames.pin(FIRST + 1), -Errno.EAGAIN);
  await guest.pager.resident(FIRST + 1);
  t.false(guest.frames.hold(FIRST + 2), 'the main thread does not wait for what cannot come');
  t.is(guest.failures, 1);
  t.deepEqual(lines.length, 1);
});

pager('E28: a page file with other bytes in it is noticed, and no wrong byte reaches the guest', async (t) => {
  const guest = start(t, { pages: 8, resident: 8 });
  await guest.tell('fill', 0, 8);
  t.is(guest.pager.out(FIRST, 8), 8);
  writeSync(guest.file, Uint8Array.of(1), 0, 1, (FIRST + 2) * PAGE_SIZE + 77);
  t.is(await guest.tell('check', 0, 2), 'ok');
  const waits = guest.tell('check', 2, 1);
  t.true(await eventually(() => guest.failures > 0));
  t.is(await Promise.race([waits, sleep(100).then(() => 'waits')]), 'waits');
});

pager('E24: a frame that is paged out is dropped without a request, and is zero when asked for again', async (t) => {
  const guest = start(t, { pages: 16, resident: 16 });
  await guest.tell('fill', 0, 16);
  guest.pager.out(FIRST, 16);
  guest.frames.release(FIRST + 2);
  t.is(guest.frames.state(FIRST + 2), FrameState.RELEASED);
  t.is(guest.frames.pin(FIRST + 2), -Errno.EINVAL);
  t.is(guest.pager.stats().requests, 0);
  t.true(guest.frames.restore(FIRST + 2));
  t.is(await guest.tell('zero', 2, 1), 'ok');
  t.is(await guest.tell('check', 3, 13), 'ok');
});

pager('E23: memory given back under I/O stays until the last pin is gone, and cannot be had again before', async (t) => {
  const guest = start(t, { pages: 16, resident: 16 });
  await guest.tell('fill', 0, 16);
  t.is(guest.hostPages, 16);
  const { frames, window } = guest;
  t.is(frames.pin(FIRST + 4), 0);
  frames.release(FIRST + 4);
  frames.release(FIRST + 5);
  t.is(guest.hostPages, 15, 'the one without a pin is gone');
  window.u8[4 * PAGE_SIZE] = 0x5a;
  t.false(frames.restore(FIRST + 4));
  t.is(frames.pin(FIRST + 4), -Errno.EINVAL, 'no new pin');
  t.is(window.u8[4 * PAGE_SIZE], 0x5a);
  frames.unpin(FIRST + 4);
  t.is(guest.hostPages, 14);
  t.true(frames.restore(FIRST + 4));
  t.is(await guest.tell('zero', 4, 1), 'ok');
});
