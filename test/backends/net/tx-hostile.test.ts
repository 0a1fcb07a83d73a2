import test from 'ava';
import fc from 'fast-check';
import { NetifExtraType, NetTxFlag } from '../../../shim/abi/io/netif.js';
import { TX_BUFFER_REF, gsoExtra } from './fake-netfront.js';
import { ipFrame, plainFrame, referenceSum } from './frames.js';
import type { Rig } from './rig.js';
import { rigged } from './rig.js';

const OKAY = 0;
const ERROR = -1;
const NULL = 1;

/** A frame of `count` slots with 60 bytes in each. */
const slots = (count: number): number[] => new Array<number>(count).fill(60);

test('E75: 257 requests published at once disable the vif, and nothing is answered', (t) => {
  rigged((rig) => {
    rig.front.tx.prod = 257;
    rig.front.pushTx();
    rig.settle();
    t.deepEqual(rig.front.txResponses(), []);
    t.is(rig.reports.length, 1);
    t.is(rig.reports[0]!.kind, 'disabled');
    t.is(rig.wire.receive(), undefined);
  });
});

for (const count of [18, 19]) {
  test(`E76: a frame of ${count} data slots is sent`, (t) => {
    rigged((rig) => {
      const frame = plainFrame(60 * count);
      const ids = rig.front.send(frame, { sizes: slots(count) });
      rig.settle();
      t.deepEqual(rig.wire.receive()?.frame, frame);
      t.deepEqual(rig.front.txResponses(), ids.map((id) => ({ id, status: OKAY })));
    });
  });
}

for (const count of [20, 21]) {
  test(`E76: a frame of ${count} data slots gets ERROR in every slot, and the next one passes`, (t) => {
    rigged((rig) => {
      const ids = rig.front.send(plainFrame(60 * count), { sizes: slots(count), extras: [gsoExtra(1000)] });
      const after = rig.front.send(plainFrame(77));
      rig.settle();
      t.is(rig.wire.receive()?.frame.length, 77);
      const responses = rig.front.txResponses();
      t.is(responses[1]!.status, NULL);
      t.deepEqual(
        responses.filter((_, i) => i !== 1),
        [...ids.map((id) => ({ id, status: ERROR })), { id: after[0]!, status: OKAY }],
      );
      t.is(rig.stats.txDropSlots, 1);
      t.deepEqual(rig.reports, []);
    });
  });
}

test('E76: a frame of 22 data slots is fatal', (t) => {
  rigged((rig) => {
    rig.front.send(plainFrame(60 * 22), { sizes: slots(22) });
    rig.settle();
    t.is(rig.reports[0]?.kind, 'disabled');
    t.deepEqual(rig.front.txResponses(), []);
  });
});

test('E77: a first slot that crosses its page is fatal', (t) => {
  rigged((rig) => {
    rig.front.putTx({ gref: TX_BUFFER_REF, offset: 4000, size: 200 });
    rig.front.pushTx();
    rig.settle();
    t.is(rig.reports[0]?.kind, 'disabled');
  });
});

test('E77: a later slot that crosses its page is fatal even in a frame already given up', (t) => {
  rigged((rig) => {
    rig.front.putTx({ gref: TX_BUFFER_REF, size: 100, flags: NetTxFlag.more_data });
    rig.front.putTx({ gref: TX_BUFFER_REF, size: 200, flags: NetTxFlag.more_data });
    rig.front.putTx({ gref: TX_BUFFER_REF, offset: 0xffff, size: 0xffff });
    rig.front.pushTx();
    rig.settle();
    t.is(rig.reports[0]?.kind, 'disabled');
  });
});

test('E77: a first slot of 10 bytes gets ERROR', (t) => {
  rigged((rig) => {
    const id = rig.front.putTx({ gref: TX_BUFFER_REF, size: 10 });
    rig.front.pushTx();
    rig.settle();
    t.deepEqual(rig.front.txResponses(), [{ id, status: ERROR }]);
    t.deepEqual(rig.reports, []);
  });
});

test('E77: slots that claim more than the frame get ERROR each, as a wrapped frame of 64 KiB does', (t) => {
  rigged((rig) => {
    const ids = [
      rig.front.putTx({ gref: TX_BUFFER_REF, size: 100, flags: NetTxFlag.more_data }),
      rig.front.putTx({ gref: TX_BUFFER_REF, size: 4000, flags: NetTxFlag.more_data }),
      rig.front.putTx({ gref: TX_BUFFER_REF, size: 60 }),
    ];
    rig.front.pushTx();
    rig.settle();
    t.deepEqual(rig.front.txResponses(), ids.map((id) => ({ id, status: ERROR })));
    t.deepEqual(rig.reports, []);
    t.is(rig.wire.receive(), undefined);
  });
});

const badExtras: readonly (readonly [string, (rig: Rig) => void])[] = [
  ['extra info without a slot for it', () => {}],
  ['an extra of type 0', (rig) => { rig.front.putExtra({ type: 0 }); }],
  ['an extra of type 6', (rig) => { rig.front.putExtra({ type: NetifExtraType.MAX }); }],
  ['an extra of type 99', (rig) => { rig.front.putExtra({ type: 99 }); }],
  ['an extra that promises another', (rig) => { rig.front.putExtra({ ...gsoExtra(1448), flags: 1 }); }],
  ['a segment size of 0', (rig) => { rig.front.putExtra(gsoExtra(0)); }],
  ['a segmentation type of 0', (rig) => { rig.front.putExtra(gsoExtra(1448, 0)); }],
  ['a segmentation type of 3', (rig) => { rig.front.putExtra(gsoExtra(1448, 3)); }],
];
for (const [what, put] of badExtras) {
  test(`E78: ${what} is fatal`, (t) => {
    rigged((rig) => {
      rig.front.putTx({ gref: TX_BUFFER_REF, size: 100, flags: NetTxFlag.extra_info });
      put(rig);
      rig.front.pushTx();
      rig.settle();
      t.is(rig.reports[0]?.kind, 'disabled');
      t.deepEqual(rig.front.txResponses(), []);
      t.deepEqual(rig.front.inUse(), []);
    });
  });
}

test('E79: an empty second slot is answered OKAY and its grant never looked at', (t) => {
  rigged((rig) => {
    rig.front.txBuffer(0).set(plainFrame(64));
    const ids = [
      rig.front.putTx({ gref: TX_BUFFER_REF, size: 64, flags: NetTxFlag.more_data }),
      rig.front.putTx({ gref: 0xffffffff, size: 0 }),
    ];
    rig.front.pushTx();
    rig.settle();
    t.deepEqual(rig.front.txResponses(), ids.map((id) => ({ id, status: OKAY })));
    t.deepEqual(rig.wire.receive()?.frame, plainFrame(64));
  });
});

test('E80: more_data on the last slot published is fatal', (t) => {
  rigged((rig) => {
    rig.front.putTx({ gref: TX_BUFFER_REF, size: 100, flags: NetTxFlag.more_data });
    rig.front.pushTx();
    rig.settle();
    t.is(rig.reports[0]?.kind, 'disabled');
    t.regex((rig.reports[0] as { reason: string }).reason, /slots/);
  });
});

for (const version of [4, 6] as const) {
  test(`E81: segmentation without csum_blank over IPv${version} gets the pseudo-header's sum`, (t) => {
    rigged((rig) => {
      const { frame, transport, pseudo } = ipFrame({ version, payload: 9000 });
      const original = Uint8Array.from(frame);
      rig.front.send(frame, { extras: [gsoExtra(1448, version === 4 ? 1 : 2)] });
      rig.settle();
      const got = rig.wire.receive()!;
      t.is(got.header.getUint8(0), 1);
      t.is((got.frame[transport + 16]! << 8) | got.frame[transport + 17]!, pseudo);
      // Completing it as the hardware would gives the checksum the frontend had.
      const segment = got.frame.subarray(transport);
      const sum = ~referenceSum(segment) & 0xffff;
      t.is(sum, (original[transport + 16]! << 8) | original[transport + 17]!);
      // The guest's own page is not written: it is read-only, and its frame may be sent again.
      t.deepEqual(rig.front.txBuffer(0).subarray(0, 4096), original.subarray(0, 4096));
    });
  });
}

const badHeaders: readonly (readonly [string, (frame: Uint8Array, network: number) => void])[] = [
  ['a header length of 16', (frame, network) => { frame[network] = 0x44; }],
  ['a header length beyond the frame', (frame, network) => { frame[network] = 0x4f; }],
  ['version 5', (frame, network) => { frame[network] = 0x55; }],
  ['a protocol that is neither TCP nor UDP', (frame, network) => { frame[network + 9] = 1; }],
  ['a fragment', (frame, network) => { frame[network + 6] = 0x20; }],
  ['a later fragment', (frame, network) => { frame[network + 7] = 1; }],
  ['an ethertype that is not IP', (frame) => { frame[12] = 0x12; }],
];
for (const [what, spoil] of badHeaders) {
  test(`E81: offload asked for a frame with ${what} drops it, and answers OKAY`, (t) => {
    rigged((rig) => {
      const { frame } = ipFrame({ blank: true, payload: 10 });
      spoil(frame, 14);
      const ids = rig.front.send(frame, { flags: NetTxFlag.csum_blank, extras: [gsoExtra(500)] });
      rig.settle();
      t.is(rig.wire.receive(), undefined);
      t.deepEqual(rig.front.txResponses().map(({ status }) => status), [OKAY, NULL]);
      t.is(ids.length, 1);
      t.is(rig.stats.txDropHeaders, 1);
    });
  });
}

test('E81: TCPv6 segmentation of an IPv4 frame drops it', (t) => {
  rigged((rig) => {
    rig.front.send(ipFrame({ blank: true }).frame, { flags: NetTxFlag.csum_blank, extras: [gsoExtra(500, 2)] });
    rig.settle();
    t.is(rig.wire.receive(), undefined);
    t.is(rig.stats.txDropHeaders, 1);
  });
});

test('E82: a 65th group is refused, a known one again takes a place, and removing an unknown one is no error', (t) => {
  rigged((rig) => {
    const change = (type: number, last: number): number => {
      rig.front.putTx({ gref: 0, size: 0, flags: NetTxFlag.extra_info });
      rig.front.putExtra({ type, body: [1, 0, 0x5e, 0, 0, last] });
      rig.front.pushTx();
      rig.settle();
      const [first, extra] = rig.front.txResponses().map(({ status }) => status);
      t.is(extra, NULL);
      return first!;
    };
    const { MCAST_ADD, MCAST_DEL } = NetifExtraType;
    const added = Array.from({ length: 64 }, (_, i) => change(MCAST_ADD, i === 63 ? 0 : i));
    t.deepEqual(added, new Array<number>(64).fill(OKAY));
    t.is(change(MCAST_ADD, 200), ERROR);
    t.is(change(MCAST_DEL, 201), OKAY);
    t.is(change(MCAST_ADD, 200), ERROR);
    t.is(change(MCAST_DEL, 0), OKAY);
    t.is(change(MCAST_ADD, 200), OKAY);
    t.deepEqual(rig.reports, []);
  });
});

test('E90: a bad grant in slot 3 of 5 gets ERROR, the others OKAY, nothing is sent and nothing stays pinned', (t) => {
  rigged((rig) => {
    const frame = plainFrame(5 * 500);
    rig.front.revoke(TX_BUFFER_REF + 2);
    const ids = rig.front.send(frame, { sizes: [500, 500, 500, 500, 500] });
    rig.settle();
    t.deepEqual(
      rig.front.txResponses(),
      ids.map((id, i) => ({ id, status: i === 2 ? ERROR : OKAY })),
    );
    t.is(rig.wire.receive(), undefined);
    t.deepEqual(rig.front.inUse(), []);
    t.is(rig.stats.txDropGrant, 1);
  });
});

test('after a fatal slot what came before it in the batch is not answered either, and nothing stays pinned', (t) => {
  rigged((rig) => {
    rig.front.send(plainFrame(100));
    rig.front.putTx({ gref: TX_BUFFER_REF, offset: 4095, size: 60 });
    rig.front.pushTx();
    rig.settle();
    t.is(rig.reports.length, 1);
    t.deepEqual(rig.front.txResponses(), []);
    t.deepEqual(rig.front.inUse(), []);
    rig.front.send(plainFrame(100));
    rig.settle();
    t.is(rig.wire.receive(), undefined);
  });
});

test('slots full of random words never throw, never hang, and leave no pin behind', (t) => {
  const word = fc.nat(0xffffffff);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.oneof(word, fc.integer({ min: 8, max: 300 })), word, word), { maxLength: 256 }),
      fc.nat(600),
      (words, prod) => {
        rigged((rig) => {
          words.forEach(([a, b, c], i) => {
            const at = rig.front.tx.slot(i);
            rig.front.tx.view.setUint32(at, a, true);
            rig.front.tx.view.setUint32(at + 4, b, true);
            rig.front.tx.view.setUint32(at + 8, c, true);
          });
          rig.front.tx.prod = prod;
          rig.front.pushTx();
          rig.settle();
          t.deepEqual(rig.front.inUse(), []);
        });
      },
    ),
    { numRuns: 60 },
  );
});

test('a header rewritten after its slot was published changes nothing that was decided on the copy', (t) => {
  rigged((rig) => {
    const { frame, transport } = ipFrame({ blank: true });
    rig.front.send(frame, { flags: NetTxFlag.csum_blank });
    const { tx } = rig.connection;
    const consume = tx.consume.bind(tx);
    tx.consume = (now) => {
      const count = consume(now);
      // Between our look and the link's write.
      if (count > 0) rig.front.txBuffer(0).fill(0xff);
      return count;
    };
    rig.settle();
    const got = rig.wire.receive()!;
    t.is(got.header.getUint16(6, true), transport);
    // Headers of TCP; what follows is the guest's business.
    t.deepEqual(got.frame.subarray(0, transport + 20), frame.subarray(0, transport + 20));
  });
});

test('E83: a rate is enforced, and a packet larger than a period is sent once credit has gathered', (t) => {
  rigged(
    (rig) => {
      // 1000 bytes every 50 ms.
      for (let i = 0; i < 10; i++) rig.front.send(plainFrame(500));
      rig.settle();
      t.is(rig.front.txResponses().length, 2);
      rig.elapse(49, 7);
      t.is(rig.front.txResponses().length, 0);
      rig.elapse(151, 5);
      t.is(rig.front.txResponses().length, 8);
      rig.front.send(plainFrame(1500));
      rig.settle();
      t.is(rig.front.txResponses().length, 0);
      rig.elapse(150, 10);
      t.is(rig.front.txResponses().length, 1);
      t.is(rig.stats.txDropLink, 0);
    },
    { rate: { bytes: 1000, usec: 50_000 } },
  );
});
