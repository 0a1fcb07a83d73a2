import test from 'ava';
import { Worker } from 'node:worker_threads';
import { native } from '../../../kvm/native.js';
import { createGrantState } from '../../../shim/grant-table/state.js';
import { attachGuest, splitRanges, type GuestHandles } from '../../../shim/memory/attach.js';
import { PAGE_SIZE, WINDOW_PAGES } from '../../../shim/memory/guest-memory.js';

function handles(pages = 16): GuestHandles {
  return {
    ram: [{ fd: native.memfd('test-ram', pages * PAGE_SIZE), offset: 0, gfn: 0, pages }],
    own: { fd: native.memfd('test-own', 8 * PAGE_SIZE), pages: 8 },
    grants: createGrantState({ maxFrames: 4, ownPages: 8, firstOwnPage: 2 }),
    domid: 1,
  };
}

function close(guest: GuestHandles): void {
  for (const fd of new Set([guest.own.fd, ...guest.ram.map((range) => range.fd)])) native.closeFd(fd);
}

test('a range larger than a window is cut at window boundaries of its own', (t) => {
  const pieces = splitRanges([
    { fd: 3, offset: 2 ** 32, gfn: 0x10_0000, pages: 2 * WINDOW_PAGES + 5 },
    { fd: 3, offset: 0, gfn: 0, pages: 16 },
  ]);
  t.deepEqual(pieces, [
    { fd: 3, offset: 0, gfn: 0, pages: 16 },
    { fd: 3, offset: 2 ** 32, gfn: 0x10_0000, pages: WINDOW_PAGES },
    { fd: 3, offset: 2 ** 32 + 2 ** 31, gfn: 0x10_0000 + WINDOW_PAGES, pages: WINDOW_PAGES },
    { fd: 3, offset: 2 ** 33, gfn: 0x10_0000 + 2 * WINDOW_PAGES, pages: 5 },
  ]);
});

test('5 GiB of RAM is mapped in windows at addresses whose low half is zero, each showing its part of the file', (t) => {
  const pages = 5 * 2 ** 18;
  const base = handles();
  native.closeFd(base.ram[0]!.fd);
  const fd = native.memfd('test-big', pages * PAGE_SIZE);
  const guest = { ...base, ram: [{ fd, offset: 0, gfn: 0x10_0000, pages }] };
  const { memory, detach } = attachGuest(guest);
  t.is(memory.windows.length, 3);
  for (const window of memory.windows) t.is(window.hva % 2 ** 32, 0);
  t.true(memory.write(2 ** 32 + 2 ** 31 - 2, Uint8Array.of(1, 2, 3, 4)));
  t.is(memory.windows[0]!.u8.at(-1), 2);
  t.is(memory.windows[1]!.u8[0], 3);
  detach();
  close(guest);
});

test('two attachments of one guest see the same memory and the same grants', (t) => {
  const guest = handles();
  const a = attachGuest(guest);
  const b = attachGuest(guest);
  a.memory.write(PAGE_SIZE, Uint8Array.of(42));
  const byte = new Uint8Array(1);
  t.true(b.memory.read(PAGE_SIZE, byte));
  t.is(byte[0], 42);
  a.grantTable.seedEntry(8, 0, 3);
  const handle = b.grants.mapOne(8, false, 0, (_context, window, offset) => {
    t.is(window.u8[offset], 0);
    t.is(offset, 3 * PAGE_SIZE);
  });
  t.true(handle >= 0);
  t.is(a.grantTable.stats().readwritePins, 1);
  t.is(a.grants.unmapOne(handle), 0);
  a.detach();
  b.detach();
  close(guest);
});

test('handles go to a worker as they are and attach there', async (t) => {
  const guest = handles();
  const here = attachGuest(guest);
  here.memory.write(5 * PAGE_SIZE, Uint8Array.of(7));
  here.grantTable.seedEntry(9, 0, 5);
  const module = new URL('../../../shim/memory/attach.js', import.meta.url).href;
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(${JSON.stringify(module)}).then(({ attachGuest }) => {
      const guest = attachGuest(workerData);
      let seen = -1;
      const handle = guest.grants.mapOne(9, true, 0, (context, window, offset) => { seen = window.u8[offset]; });
      parentPort.postMessage({ seen, handle });
      guest.detach();
    });`;
  const worker = new Worker(source, { eval: true, workerData: guest });
  const answer = await new Promise<{ seen: number; handle: number }>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await worker.terminate();
  t.is(answer.seen, 7);
  t.is(here.grantTable.stats().readonlyPins, 1);
  t.is(here.grants.unmapOne(answer.handle), 0, 'a handle of one thread can be unmapped by another');
  t.is(here.grantTable.stats().handles, 0);
  here.detach();
  close(guest);
});

test('remap keeps the addresses of ranges that stayed and finds grant frames in a moved layout', (t) => {
  const guest = handles();
  const attached = attachGuest(guest);
  const before = attached.memory.windows[0]!.hva;
  const more = native.memfd('test-more', 4 * PAGE_SIZE);
  attached.remap([...guest.ram, { fd: more, offset: 0, gfn: 100, pages: 4 }]);
  t.is(attached.memory.windows[0]!.hva, before);
  t.true(attached.memory.write(101 * PAGE_SIZE, Uint8Array.of(1)));
  t.false(attached.memory.write(104 * PAGE_SIZE, Uint8Array.of(1)));
  attached.detach();
  close(guest);
  native.closeFd(more);
});

test('a descriptor that cannot be mapped throws and leaves nothing attached', (t) => {
  const guest = handles();
  t.throws(() => attachGuest({ ...guest, own: { fd: 9999, pages: 8 } }), { message: /mmap/ });
  const attached = attachGuest(guest);
  t.is(attached.grantTable.thread, 0);
  attached.detach();
  close(guest);
});
