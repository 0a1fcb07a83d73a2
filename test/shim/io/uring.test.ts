import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';

import { native } from '../../../kvm/native.js';
import { Doorbell } from '../../../shim/io/doorbell.js';
import { arena } from '../../../shim/io/memory.js';
import { CQE_MORE, FIXED_FILE, IoUring, UringOp, uringProblem } from '../../../shim/io/uring.js';

interface Completion {
  readonly lo: number;
  readonly hi: number;
  readonly result: number;
  readonly flags: number;
}

function reap(uring: IoUring): Completion[] {
  const count = uring.completions();
  const found = Array.from({ length: count }, (_, i) => ({
    lo: uring.userLo(i),
    hi: uring.userHi(i),
    result: uring.result(i),
    flags: uring.flags(i),
  }));
  uring.consume(count);
  return found;
}

test('the host has a usable io_uring', (t) => {
  t.is(uringProblem(), undefined);
});

test('a write and a read through registered files move the bytes at a known address', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-uring-'));
  writeFileSync(join(dir, 'f'), Buffer.alloc(8192));
  const fd = openSync(join(dir, 'f'), 'r+');
  const uring = new IoUring(8, 16);
  uring.registerFiles([fd]);
  const memory = arena(8192);
  memory.i32.fill(0x01020304, 0, 1024);
  uring.push(UringOp.WRITE, FIXED_FILE, 0, 4096, 0, memory.lo, memory.hi, 4096, 0, 7, 9);
  uring.enter(1, -1);
  t.like(reap(uring), [{ lo: 7, hi: 9, result: 4096 }]);
  t.true(readFileSync(join(dir, 'f')).subarray(4096).equals(Buffer.alloc(4096, Buffer.from([4, 3, 2, 1]))));
  uring.push(UringOp.READ, FIXED_FILE, 0, 4096, 0, memory.lo + 4096, memory.hi, 4096, 0, 8, -5);
  uring.enter(1, -1);
  t.like(reap(uring), [{ lo: 8, hi: -5, result: 4096 }]);
  t.true(memory.i32.every((word) => word === 0x01020304));
  uring.close();
  uring.close();
  memory.free();
  closeSync(fd);
  rmSync(dir, { recursive: true });
});

test('more entries than the ring has are submitted on the way, and the indexes wrap', (t) => {
  const uring = new IoUring(4, 256);
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 100; i++) uring.push(UringOp.ASYNC_CANCEL, 0, -1, 0, 0, 1, 1, 0, 0, i, round);
    uring.enter(100, -1);
    t.is(uring.toSubmit, 0);
    // ENOENT: there is nothing to cancel.
    t.deepEqual(reap(uring).map(({ lo, hi, result }) => [lo, hi, result]), Array.from({ length: 100 }, (_, i) => [i, round, -2]));
  }
  uring.close();
});

test('waiting ends with the time allowed', (t) => {
  const uring = new IoUring(4, 8);
  const started = performance.now();
  uring.enter(1, 30_000);
  t.true(performance.now() - started >= 25);
  t.is(uring.completions(), 0);
  uring.close();
});

test('a doorbell that rings at the very moment it is taken down is taken down', (t) => {
  const uring = new IoUring(8, 64);
  const fd = native.eventfd();
  for (let round = 0; round < 1000; round++) {
    const bell = new Doorbell(uring, fd, 1, round);
    bell.arm();
    uring.enter(0, -1);
    // The event is noticed by the kernel and not yet posted when the cancellation is submitted.
    native.eventfdSignal(fd);
    bell.cancel(3, 4);
    for (let tries = 0; tries < 100 && bell.armed; tries++) {
      uring.enter(1, 10_000);
      for (const event of reap(uring)) if (event.lo === 1) bell.completed(event.flags, event.result);
    }
    if (bell.armed) t.fail(`still armed in round ${round}`);
  }
  t.pass();
  uring.close();
  native.closeFd(fd);
});

test('a doorbell wakes the ring at each ring, without being armed again, until it is taken down', (t) => {
  const uring = new IoUring(8, 64);
  const fd = native.eventfd();
  const bell = new Doorbell(uring, fd, 1, 2);
  native.eventfdSignal(fd);
  bell.arm();
  uring.enter(1, 1000);
  t.deepEqual(reap(uring), [], 'a ring before arming is forgotten');
  for (let i = 0; i < 3; i++) {
    native.eventfdSignal(fd);
    uring.enter(1, 1_000_000);
    const [event, ...more] = reap(uring);
    t.deepEqual(more, []);
    t.like(event, { lo: 1, hi: 2 });
    t.true((event!.flags & CQE_MORE) !== 0);
    t.true(bell.completed(event!.flags, event!.result));
    t.true(bell.armed);
  }
  bell.cancel(3, 4);
  bell.cancel(3, 4);
  uring.enter(2, 1_000_000);
  for (const event of reap(uring)) if (event.lo === 1) t.false(bell.completed(event.flags, event.result));
  t.false(bell.armed);
  native.eventfdSignal(fd);
  uring.enter(1, 1000);
  t.deepEqual(reap(uring), []);
  uring.close();
  native.closeFd(fd);
});
