import test from 'ava';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { arenaOver } from '../../../backends/net/arena.js';
import { PlainLink } from '../../../backends/net/plain-link.js';
import { UringLink } from '../../../backends/net/uring-link.js';
import { openVifLink } from '../../../backends/net/vif-link.js';
import type { VifLink } from '../../../backends/net/vif-link.js';
import { native } from '../../../kvm/native.js';
import { arena } from '../../../shim/io/memory.js';
import { IoUring } from '../../../shim/io/uring.js';
import { VectorIo } from '../../../shim/io/vector-io.js';

const EAGAIN = -11;
const EOPNOTSUPP = -95;

/** What a link tells, in order. */
class Told {
  readonly ends: unknown[] = [];

  sent(tag: number, result: number): void {
    this.ends.push(['sent', tag, result]);
  }

  received(buffer: number, result: number): void {
    this.ends.push(['received', buffer, result]);
  }

  receivedDirect(index: number, result: number): void {
    this.ends.push(['receivedDirect', index, result]);
  }
}

interface Ends {
  readonly link: VifLink;
  readonly uring: IoUring;
  /** Address of 4096 bytes, and where they are here. */
  readonly hva: number;
  readonly bytes: Buffer;
}

function opened(fd: number, options: { waits?: boolean; plain?: boolean }, body: (ends: Ends) => void): void {
  const uring = new IoUring(8, 16);
  const { lo, hi, i32, free } = arena(4096);
  const hva = hi * 2 ** 32 + (lo >>> 0);
  try {
    uring.registerFiles([fd]);
    const scratch = arenaOver(i32.buffer, hva);
    const link = openVifLink({ uring, fd, waits: false, plain: false, ...options, scratch });
    body({ link, uring, hva, bytes: Buffer.from(i32.buffer) });
  } finally {
    uring.close();
    free();
  }
}

function withPair(body: (fd: number, other: number) => void): void {
  const [fd, other] = native.channelPair();
  try {
    body(fd, other);
  } finally {
    native.closeFd(fd);
    native.closeFd(other);
  }
}

const isNonBlocking = (fd: number): boolean => {
  const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))![1]!;
  return (Number.parseInt(flags, 8) & constants.O_NONBLOCK) !== 0;
};

test('a descriptor that takes reads which are not to wait is served by io_uring, and stays as it is', (t) => {
  withPair((fd) => {
    const before = isNonBlocking(fd);
    opened(fd, {}, ({ link }) => {
      t.true(link instanceof UringLink);
    });
    t.is(isNonBlocking(fd), before);
  });
});

test('one that refuses them, as taps do before Linux 6.4, is served by plain system calls and made non-blocking', (t) => {
  // No terminal has FMODE_NOWAIT.
  const fd = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY);
  try {
    t.false(isNonBlocking(fd));
    opened(fd, {}, ({ link, hva }) => {
      t.is(new VectorIo(fd).readOne(hva, 10), EOPNOTSUPP);
      t.true(link instanceof PlainLink);
      t.true(isNonBlocking(fd));
    });
  } finally {
    closeSync(fd);
  }
});

test('a link whose writes wait is served by io_uring, whatever is wished', (t) => {
  withPair((fd) => {
    opened(fd, { waits: true, plain: true }, ({ link }) => {
      t.true(link instanceof UringLink);
      t.true(link.waits);
    });
  });
});

test('a plain link tells what became of reads and writes later, once, and in order', (t) => {
  withPair((fd, other) => {
    opened(fd, { plain: true }, ({ link, hva, bytes }) => {
      const told = new Told();
      native.channelSend(other, Buffer.from('four'));
      bytes.write('to the wire', 100, 'latin1');
      link.sendPlain(7, hva + 100, 11);
      link.read(3, hva, 50);
      link.read(4, hva + 50, 50);
      // What comes in the middle of a batch that has found the link empty waits for the next.
      native.channelSend(other, Buffer.from('later'));
      link.read(5, hva + 50, 50);
      t.deepEqual(told.ends, []);
      t.is(link.take(told, told, 0), 2);
      t.deepEqual(told.ends, [['sent', 7, 11], ['received', 3, 4], ['received', 4, EAGAIN], ['received', 5, EAGAIN]]);
      t.is(bytes.toString('latin1', 0, 4), 'four');
      const message = Buffer.alloc(20);
      native.channelReceive(other, message, 1000);
      t.is(message.toString('latin1', 0, 11), 'to the wire');

      t.is(link.take(told, told, 0), 0);
      told.ends.length = 0;
      link.read(6, hva, 50);
      t.is(link.take(told, told, 0), 1);
      t.deepEqual(told.ends, [['received', 6, 5]]);
    });
  });
});

test('a plain link answers each of a ring full of writes and a batch of reads', (t) => {
  withPair((fd) => {
    opened(fd, { plain: true }, ({ link, hva }) => {
      const told = new Told();
      for (let tag = 0; tag < 256; tag++) link.sendPlain(tag, hva, 1);
      for (let index = 0; index < 64; index++) link.read(index, hva, 50);
      link.take(told, told, 0);
      t.is(told.ends.length, 320);
      t.deepEqual(told.ends[319], ['received', 63, EAGAIN]);
    });
  });
});

test('a plain link completes in the io_uring when it has a frame', (t) => {
  withPair((fd, other) => {
    opened(fd, { plain: true }, ({ link, uring }) => {
      link.poll();
      uring.enter(0, -1);
      t.is(uring.completions(), 0);
      native.channelSend(other, Buffer.from('frame'));
      uring.enter(1, -1);
      t.is(uring.completions(), 1);
    });
  });
});
