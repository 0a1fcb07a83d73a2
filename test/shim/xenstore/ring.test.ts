import test from 'ava';
import { XsType } from '../../../shim/abi/io/xs_wire.js';
import { silentLog } from '../../../shim/observe/log.js';
import { encode } from '../../../shim/xenstore/message.js';
import { Xenstore } from '../../../shim/xenstore/xenstore.js';
import type { Quotas } from '../../../shim/xenstore/quota.js';
import { FakeClock } from './helpers/fake-clock.js';
import { GuestRing, Word, isEvent } from './helpers/guest-ring.js';

function machine(quotas: Partial<Quotas> = {}) {
  const clock = new FakeClock();
  const xenstore = new Xenstore({ clock, quotas });
  const guests = [1, 2].map((domid) => {
    const guest = new GuestRing();
    const ring = xenstore.introduce(domid, guest.page, guest.notify);
    xenstore.client.mkdir(`/local/domain/${domid}/data`);
    xenstore.client.setPermissions(`/local/domain/${domid}/data`, [`n${domid}`]);
    return { guest, ring };
  });
  return { clock, xenstore, one: guests[0]!, two: guests[1]! };
}

type Side = ReturnType<typeof machine>['one'];

/** One request, one reply. */
function ask({ guest, ring }: Side, type: number, payload: string, txId = 0): string {
  guest.send(type, payload, 7, txId);
  ring.serve();
  const reply = guest.take().find((message) => !isEvent(message));
  if (reply === undefined) throw new Error('no reply');
  return reply.type === XsType.ERROR ? reply.payload.slice(0, -1) : reply.payload;
}

const works = (side: Side): boolean => ask(side, XsType.WRITE, 'data/alive\0yes') === 'OK\0';

test('a request is answered and the guest signalled', (t) => {
  const { one } = machine();
  one.guest.send(XsType.WRITE, 'data/a\0value', 42);
  one.ring.serve();
  t.deepEqual(one.guest.take(), [{ type: XsType.WRITE, reqId: 42, txId: 0, payload: 'OK\0' }]);
  t.is(one.guest.notified, 1);
  t.is(ask(one, XsType.READ, 'data/a\0'), 'value');
  t.true(one.guest.surroundingsIntact);
});

test('a pass with nothing to do signals nobody', (t) => {
  const { one } = machine();
  one.ring.serve();
  t.is(one.guest.notified, 0);
});

test('the page says that reconnecting and the error word are supported', (t) => {
  const { one } = machine();
  t.is(one.guest.word(Word.features), 3);
  t.is(one.guest.word(Word.connection), 0);
});

test('several requests in one ring are answered in order', (t) => {
  const { one } = machine();
  for (let i = 0; i < 10; i++) one.guest.send(XsType.WRITE, `data/${i}\0v`, i);
  one.ring.serve();
  t.deepEqual(one.guest.take().map(({ reqId }) => reqId), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test('a request larger than the ring arrives in pieces, and so does a reply', (t) => {
  const { one, xenstore, clock } = machine({ 'node-size': 0 });
  const value = 'v'.repeat(3500);
  const request = encode(XsType.WRITE, 5, 0, `data/big\0${value}`);
  for (let at = 0; at < request.length; ) {
    at += one.guest.put(request.subarray(at));
    one.ring.serve();
  }
  t.is(one.guest.take()[0]?.payload, 'OK\0');
  t.is(xenstore.client.read('/local/domain/1/data/big'), value);

  one.guest.send(XsType.READ, 'data/big\0', 6);
  const replies = [];
  for (let i = 0; i < 10; i++) {
    one.ring.serve();
    replies.push(...one.guest.take());
  }
  t.deepEqual(replies, [{ type: XsType.READ, reqId: 6, txId: 0, payload: value }]);
  clock.settle();
});

test('a request that trickles in byte by byte is answered once it is whole', (t) => {
  const { one } = machine();
  for (const byte of encode(XsType.READ, 1, 0, 'domid\0')) {
    t.deepEqual(one.guest.take(), []);
    one.guest.put(Uint8Array.of(byte));
    one.ring.serve();
  }
  t.is(one.guest.take().length, 1);
});

test('indices that wrap around 2^32 are fine', (t) => {
  const { one } = machine();
  for (const word of [Word.reqCons, Word.reqProd, Word.rspCons, Word.rspProd]) one.guest.set(word, 0xffffffe0);
  t.true(works(one));
  t.true(works(one));
  t.true(one.guest.word(Word.reqProd) < 1024);
  t.is(one.guest.word(Word.reqCons), one.guest.word(Word.reqProd));
});

test('firmware that wipes the page when it leaves does not confuse the connection', (t) => {
  const { one } = machine();
  t.true(works(one));
  new Uint8Array(one.guest.view.buffer, 4096, 4096).fill(0);
  t.true(works(one));
});

test('E42: a payload of 4097 bytes kills the connection with error 3; other domains go on', (t) => {
  for (const length of [4097, 0x7fffffff, 0x80000000, 0xffffffff]) {
    const { one, two, xenstore, clock } = machine();
    ask(one, XsType.WATCH, 'data\0tok\0');
    const header = encode(XsType.WRITE, 1, 0, '');
    header.writeUInt32LE(length, 12);
    one.guest.put(header);
    one.ring.serve();
    t.is(one.guest.word(Word.error), 3, String(length));
    t.true(one.ring.dead);
    one.guest.take();
    one.guest.set(Word.reqCons, one.guest.word(Word.reqProd));
    one.guest.send(XsType.READ, 'domid\0');
    one.ring.serve();
    clock.settle();
    t.deepEqual(one.guest.take(), [], 'ignored from now on');
    xenstore.client.write('/local/domain/1/data', 'x');
    clock.settle();
    t.deepEqual(one.guest.take(), [], 'its watches are gone');
    t.true(works(two));
    t.true(one.guest.surroundingsIntact);
  }
});

test('E42: exactly 4096 bytes of payload are allowed', (t) => {
  const { one } = machine();
  const request = encode(XsType.WRITE, 1, 0, `data/x\0${'v'.repeat(4089)}`);
  for (let at = 0; at < request.length; ) {
    at += one.guest.put(request.subarray(at));
    one.ring.serve();
  }
  t.is(one.guest.take()[0]?.payload, 'ENOSPC\0', 'too big for a node, but no violation');
  t.false(one.ring.dead);
});

test('E43: req_prod far ahead of req_cons is error 2, and nothing past the ring is read', (t) => {
  for (const ahead of [5000, 1025, 0x80000000, 0xffffffff]) {
    const { one, two } = machine();
    one.guest.set(Word.reqProd, one.guest.word(Word.reqCons) + ahead);
    one.ring.serve();
    t.is(one.guest.word(Word.error), 2, String(ahead));
    t.true(one.ring.dead);
    t.is(one.guest.word(Word.reqCons), 0, 'nothing consumed');
    t.true(works(two));
    t.true(one.guest.surroundingsIntact);
  }
});

test('E43: response indices more than a ring apart are error 2, and nothing is written', (t) => {
  const { one } = machine();
  one.guest.set(Word.rspCons, one.guest.word(Word.rspProd) + 1);
  one.guest.send(XsType.READ, 'domid\0');
  const before = one.guest.memory.slice(4096 + 1024, 4096 + 2048);
  one.ring.serve();
  t.is(one.guest.word(Word.error), 2);
  t.deepEqual(one.guest.memory.slice(4096 + 1024, 4096 + 2048), before);
});

test('garbage in the ring is answered with errors or ends the connection, never more', (t) => {
  let seed = 12345;
  const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0);
  for (let round = 0; round < 200; round++) {
    const { one, two, clock } = machine();
    for (let i = 0; i < 20; i++) {
      const bytes = Buffer.alloc(random() % 200);
      for (let at = 0; at < bytes.length; at++) bytes[at] = random() >>> 13;
      if (random() % 2 === 0 && bytes.length >= 16) {
        bytes.writeUInt32LE(random() % 28, 0);
        bytes.writeUInt32LE(0, 8);
        bytes.writeUInt32LE(random() % 100, 12);
      }
      one.guest.put(bytes);
      if (random() % 8 === 0) one.guest.set(Word.reqCons + 4 * (random() % 4), random());
      one.ring.serve();
      clock.settle();
      if (random() % 2 === 0) one.guest.set(Word.rspCons, one.guest.word(Word.rspProd));
    }
    t.true(one.guest.surroundingsIntact);
    t.true(works(two));
  }
});

test('E48: a guest that reads no events is held at bounded memory, its input waits, and goes on once it reads', (t) => {
  const { one, two, xenstore, clock } = machine({ nodes: 0, 'node-size': 0 });
  t.is(ask(one, XsType.WATCH, 'data\0tok\0'), 'OK\0');
  one.ring.serve();
  const storm = (count: number, tag: string): void => {
    for (let i = 0; i < count; i++) xenstore.client.write(`/local/domain/1/data/${tag}${i % 100}/${'n'.repeat(60)}${i}`, '');
    clock.settle();
  };
  xenstore.client.setPermissions('/local/domain/1/data', ['n0', 'r1']);
  storm(20_000, 'a');
  const { memory } = xenstore.store.domain(1);
  t.true(memory > 2.4 * 1024 * 1024 && memory <= 2.5 * 1024 * 1024, String(memory));
  storm(20_000, 'b');
  t.true(xenstore.store.domain(1).memory <= 2.5 * 1024 * 1024);
  t.true(works(two));
  for (let i = 0; i < 30; i++) one.guest.send(XsType.READ, 'data/x\0', i);
  one.ring.serve();
  t.not(one.guest.word(Word.reqCons), one.guest.word(Word.reqProd), 'requests are left in the ring');

  let read = 0;
  while (one.guest.word(Word.rspProd) !== one.guest.word(Word.rspCons)) {
    read += one.guest.take().length;
    one.ring.serve();
  }
  t.true(read > 5000);
  t.is(one.guest.word(Word.reqCons), one.guest.word(Word.reqProd));
  t.is(ask(one, XsType.READ, 'data/none\0'), 'ENOENT');
  t.true(xenstore.store.domain(1).memory < 10_000);
});

test('E48: with twenty replies unread no further request is taken in', (t) => {
  const { one, xenstore } = machine();
  one.guest.set(Word.rspProd, one.guest.word(Word.rspCons) + 1024);
  const answered = (): number => xenstore.store.domain(1).outstanding;
  for (let i = 0; i < 30; i++) one.guest.send(XsType.READ, 'x\0', i);
  one.ring.serve();
  t.is(answered(), 20);
  const left = (one.guest.word(Word.reqProd) - one.guest.word(Word.reqCons)) >>> 0;
  t.is(left, 10 * 18);
  one.guest.set(Word.rspCons, one.guest.word(Word.rspProd));
  const replies = [];
  for (let i = 0; i < 4; i++) {
    one.ring.serve();
    replies.push(...one.guest.take());
  }
  t.is(answered(), 0);
  t.true(replies.some(({ reqId }) => reqId === 29));
});

test('E48: a writer whose events another guest leaves unread is the one that waits', (t) => {
  const { one, two, xenstore, clock } = machine();
  xenstore.client.setPermissions('/local/domain/1/data', ['r1']);
  ask(two, XsType.WATCH, '/local/domain/1/data\0tok\0');
  two.guest.take();
  // The second guest stops reading: its ring is full.
  two.guest.set(Word.rspProd, two.guest.word(Word.rspCons) + 1024);
  let acked = 0;
  for (let i = 0; i < 40; i++) {
    one.guest.send(XsType.WRITE, `data/${i}\0v`);
    one.ring.serve();
    acked += one.guest.take().length;
    if (acked <= i) break;
  }
  t.is(acked, 20);
  two.guest.set(Word.rspCons, two.guest.word(Word.rspProd));
  two.ring.serve();
  clock.settle();
  t.is(one.guest.take().length, 1, 'goes on by itself');
});

test('E48: an event left unread for 20 s is dropped, and the writer it held goes on', (t) => {
  const { one, two, xenstore, clock } = machine();
  xenstore.client.setPermissions('/local/domain/1/data', ['r1']);
  ask(two, XsType.WATCH, '/local/domain/1/data\0tok\0');
  two.guest.take();
  two.guest.set(Word.rspProd, two.guest.word(Word.rspCons) + 1024);
  for (let i = 0; i < 21; i++) {
    one.guest.send(XsType.WRITE, `data/${i}\0v`);
    one.ring.serve();
    one.guest.take();
  }
  t.is(xenstore.store.domain(1).outstanding, 20);
  clock.advance(19_000);
  t.is(xenstore.store.domain(1).outstanding, 20);
  clock.advance(1_100);
  t.is(one.guest.take().length, 1);
  t.true(xenstore.store.domain(1).outstanding <= 1);
});

test('a guest that writes too fast while transactions are open waits for its turn', (t) => {
  const { one, two, clock } = machine();
  ask(two, XsType.TRANSACTION_START, '\0');
  let done = 0;
  for (let i = 0; i < 40; i++) {
    one.guest.send(XsType.WRITE, `data/x\0${i}`);
    one.ring.serve();
    const now = one.guest.take().length;
    if (now === 0) break;
    done += now;
  }
  t.is(done, 11);
  clock.advance(5);
  t.is(one.guest.take().length, 0);
  clock.advance(6);
  t.is(one.guest.take().length, 1, 'without the guest signalling again');
});

test('a guest that refills the ring as fast as it is emptied cannot hold the event loop', (t) => {
  const { one, clock } = machine({ outstanding: 0 });
  const { connection } = one.ring;
  const handle = connection.handle.bind(connection);
  let handled = 0;
  connection.handle = (message) => {
    handle(message);
    handled++;
    one.guest.set(Word.rspCons, one.guest.word(Word.rspProd));
    if (handled < 1000) one.guest.send(XsType.READ, 'x\0');
  };
  one.guest.send(XsType.READ, 'x\0');
  one.ring.serve();
  t.true(handled > 10 && handled <= 64, String(handled));
  clock.settle();
  t.is(handled, 1000, 'the rest follows in later turns, unasked');
});

test('a guest that asks to reconnect starts from nothing: rings, watches, transactions, error', (t) => {
  const { one, xenstore, clock } = machine();
  ask(one, XsType.WATCH, 'data\0tok\0');
  const tx = ask(one, XsType.TRANSACTION_START, '\0').slice(0, -1);
  one.guest.take();
  one.guest.put(encode(XsType.READ, 1, 0, 'half').subarray(0, 10));
  one.ring.serve();
  const { notified } = one.guest;
  one.guest.set(Word.connection, 1);
  one.ring.serve();
  t.is(one.guest.word(Word.connection), 0);
  t.is(one.guest.notified, notified + 1);
  for (const word of [Word.reqCons, Word.reqProd, Word.rspCons, Word.rspProd]) t.is(one.guest.word(word), 0);
  t.is(ask(one, XsType.READ, 'data\0', Number(tx)), 'ENOENT');
  xenstore.client.write('/local/domain/1/data', 'x');
  clock.settle();
  t.deepEqual(one.guest.take(), []);
  t.is(ask(one, XsType.WATCH, 'data\0tok\0'), 'OK\0');
});

test('reconnecting also revives a connection that a violation has ended', (t) => {
  const { one } = machine();
  one.guest.set(Word.reqProd, 5000);
  one.ring.serve();
  t.true(one.ring.dead);
  one.guest.set(Word.connection, 1);
  one.ring.serve();
  t.is(one.guest.word(Word.error), 0);
  t.true(works(one));
});

test('events reach the guest without its asking', (t) => {
  const { one, xenstore, clock } = machine();
  ask(one, XsType.WATCH, 'data\0tok\0');
  one.ring.serve();
  one.guest.take();
  const { notified } = one.guest;
  xenstore.client.write('/local/domain/1/data/x', '1');
  clock.settle();
  t.deepEqual(one.guest.take().map(({ payload }) => payload), ['data/x\0tok\0']);
  t.is(one.guest.notified, notified + 1);
});

test('a closed connection touches its page no more, and its quota is given back', (t) => {
  const { one, xenstore, clock } = machine();
  ask(one, XsType.WATCH, 'data\0tok\0');
  one.guest.take();
  xenstore.client.write('/local/domain/1/data/x', '1');
  xenstore.release(1);
  const before = one.guest.memory.slice();
  one.guest.send(XsType.READ, 'domid\0');
  one.ring.serve();
  clock.advance(30_000);
  t.is(one.guest.word(Word.reqCons), before[4096 + 2048]! | (before[4096 + 2049]! << 8));
  t.is(xenstore.store.findDomain(1), undefined);
  t.is(clock.waiting, 0);
});

test('a guest introduced again gets fresh rings and nothing of its old connection', (t) => {
  const { one, xenstore, clock } = machine();
  ask(one, XsType.WATCH, 'data\0tok\0');
  one.guest.take();
  const ring = xenstore.introduce(1, one.guest.page, one.guest.notify);
  xenstore.client.write('/local/domain/1/data/x', '1');
  clock.settle();
  t.deepEqual(one.guest.take(), []);
  t.true(works({ guest: one.guest, ring }));
  t.is(xenstore.store.domain(1).watches, 0);
});

test('a stub domain acts for its target', (t) => {
  const { one, xenstore } = machine();
  xenstore.client.write('/local/domain/2/data/x', 'two');
  xenstore.client.setPermissions('/local/domain/2/data/x', ['n2']);
  t.is(ask(one, XsType.READ, '/local/domain/2/data/x\0'), 'EACCES');
  const host = xenstore.hostConnection(() => {});
  host.handle({ type: XsType.SET_TARGET, reqId: 1, txId: 0, payload: Buffer.from('1\x002\0') });
  t.is(ask(one, XsType.READ, '/local/domain/2/data/x\0'), 'two');
});

test('a broken protocol and much memory are each told to the operator once', (t) => {
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (fields: object, message: string) => warnings.push(`${message} ${JSON.stringify(fields)}`) };
  const clock = new FakeClock();
  const xenstore = new Xenstore({ clock, log, quotas: { 'node-size': 0, nodes: 0 } });
  const guest = new GuestRing();
  const ring = xenstore.introduce(1, guest.page, guest.notify);
  xenstore.client.mkdir('/local/domain/1');
  xenstore.client.setPermissions('/local/domain/1', ['n1']);
  for (let i = 0; i < 2500; i++) {
    guest.send(XsType.WRITE, `d/${i}\0${'v'.repeat(900)}`);
    ring.serve();
    guest.take();
  }
  t.is(warnings.length, 1);
  t.regex(warnings[0]!, /memory.*"domid":1/);
  for (let i = 0; i < 3; i++) {
    guest.set(Word.reqProd, guest.word(Word.reqCons) + 5000);
    ring.serve();
  }
  t.is(warnings.length, 2);
  t.regex(warnings[1]!, /protocol.*"error":2/);
});
