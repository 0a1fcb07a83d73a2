import test from 'ava';
import fc from 'fast-check';
import { NetifExtraType, NetTxFlag } from '../../../shim/abi/io/netif.js';
import { RX_BUFFER_REF, TX_BUFFER_REF, gsoExtra } from './fake-netfront.js';
import { ipFrame, plainFrame, referenceSum } from './frames.js';
import { Rig } from './rig.js';
import type { RigOptions } from './rig.js';

const OKAY = 0;
const ERROR = -1;
const NULL = 1;

function rigged(body: (rig: Rig) => void, options?: RigOptions): void {
  const rig = new Rig(options);
  try {
    body(rig);
  } finally {
    rig.close();
  }
}

/** A frame of `count` slots with 60 bytes in each. */
const slots = (count: number): number[] => new Array<number>(count).fill(60);

test('a frame in one slot reaches the link as it was, and its slot is answered', (t) => {
  rigged((rig) => {
    const frame = plainFrame(90);
    const ids = rig.front.send(frame);
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, frame);
    t.deepEqual(rig.front.txResponses(), [{ id: ids[0]!, status: OKAY }]);
    t.deepEqual(rig.front.inUse(), []);
    t.is(rig.stats.txPackets, 1);
    t.is(rig.stats.txBytes, 90);
  });
});

test('a frame over several slots is gathered in order, whatever their sizes', (t) => {
  rigged((rig) => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 3000 }), { minLength: 1, maxLength: 18 }), (rest) => {
        const sizes = [200, ...rest];
        const frame = plainFrame(sizes.reduce((a, b) => a + b, 0), sizes.length);
        const ids = rig.front.send(frame, { sizes });
        rig.settle();
        t.deepEqual(rig.wire.receive()?.frame, frame);
        t.deepEqual(rig.front.txResponses(), ids.map((id) => ({ id, status: OKAY })));
        t.deepEqual(rig.front.inUse(), []);
      }),
      { numRuns: 60 },
    );
  });
});

test('thousands of frames pass through the ring, indexes wrapping', (t) => {
  rigged((rig) => {
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 60; i++) rig.front.send(plainFrame(60 + i, round));
      rig.settle();
      for (let i = 0; i < 60; i++) t.is(rig.wire.receive()?.frame.length, 60 + i);
      t.is(rig.front.txResponses().length, 60);
    }
    t.is(rig.stats.txPackets, 3000);
  });
});

test('a blank checksum becomes an offloaded one, for TCP and UDP over both protocols', (t) => {
  rigged((rig) => {
    for (const version of [4, 6] as const) {
      for (const protocol of [6, 17] as const) {
        const { frame, transport } = ipFrame({ version, protocol, blank: true });
        rig.front.send(frame, { flags: NetTxFlag.csum_blank | NetTxFlag.data_validated });
        rig.settle();
        const got = rig.wire.receive()!;
        t.is(got.header.getUint8(0), 1);
        t.is(got.header.getUint16(6, true), transport);
        t.is(got.header.getUint16(8, true), protocol === 6 ? 16 : 6);
        t.deepEqual(got.frame, frame);
      }
    }
  });
});

test('headers behind a VLAN tag and IPv6 extensions are found', (t) => {
  rigged((rig) => {
    const { frame, transport } = ipFrame({
      version: 6, vlan: true, blank: true, extensions: [[0, 8], [43, 24], [51, 12], [60, 16]],
    });
    rig.front.send(frame, { flags: NetTxFlag.csum_blank });
    rig.settle();
    t.is(rig.wire.receive()?.header.getUint16(6, true), transport);
  });
});

test('headers spread over many slots are parsed from the private copy', (t) => {
  rigged((rig) => {
    const { frame, transport } = ipFrame({ version: 4, payload: 400, blank: true });
    rig.front.send(frame, { sizes: [14, 3, 0, 9, 2, 11, frame.length - 39], flags: NetTxFlag.csum_blank });
    rig.settle();
    const got = rig.wire.receive()!;
    t.is(got.header.getUint16(6, true), transport);
    t.deepEqual(got.frame, frame);
  });
});

test('a segmentation request reaches the link with size, header length and checksum place', (t) => {
  rigged((rig) => {
    for (const version of [4, 6] as const) {
      const { frame, transport } = ipFrame({ version, payload: 30_000, blank: true });
      const ids = rig.front.send(frame, {
        flags: NetTxFlag.csum_blank | NetTxFlag.data_validated,
        extras: [gsoExtra(1448, version === 4 ? 1 : 2)],
      });
      rig.settle();
      const { header, frame: got } = rig.wire.receive()!;
      t.is(header.getUint8(0), 1);
      t.is(header.getUint8(1), version === 4 ? 1 : 4);
      t.is(header.getUint16(2, true), transport + 20);
      t.is(header.getUint16(4, true), 1448);
      t.is(header.getUint16(6, true), transport);
      t.is(header.getUint16(8, true), 16);
      t.deepEqual(got, frame);
      const responses = rig.front.txResponses();
      t.is(responses.length, ids.length + 1);
      t.is(responses[1]!.status, NULL);
      t.deepEqual(responses.filter((_, i) => i !== 1).map(({ id }) => id), ids);
    }
  });
});

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

test('E82: a multicast filter that was not offered is refused, and its removal succeeds', (t) => {
  rigged((rig) => {
    for (const type of [NetifExtraType.MCAST_ADD, NetifExtraType.MCAST_DEL]) {
      rig.front.putTx({ gref: 0, size: 0, flags: NetTxFlag.extra_info, id: type });
      rig.front.putExtra({ type, body: [1, 0, 0x5e, 0, 0, 1] });
    }
    rig.front.pushTx();
    rig.settle();
    t.deepEqual(rig.front.txResponses().map(({ status }) => status), [ERROR, NULL, OKAY, NULL]);
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

test('a frame behind one with a bad grant is sent from its own pages', (t) => {
  rigged((rig) => {
    rig.front.revoke(TX_BUFFER_REF + 1);
    rig.front.send(plainFrame(1000, 1), { sizes: [500, 500] });
    rig.front.send(plainFrame(700, 2), { sizes: [300, 400] });
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, plainFrame(700, 2));
    t.deepEqual(rig.front.inUse(), []);
  });
});

test('grants of other entries of the table serve just as well: a receive buffer sent as a frame', (t) => {
  rigged((rig) => {
    rig.front.rxBuffer(3).set(plainFrame(80));
    rig.front.putTx({ gref: RX_BUFFER_REF + 3, size: 80 });
    rig.front.pushTx();
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, plainFrame(80));
  });
});

test('a page is unpinned before its response is published', (t) => {
  rigged((rig) => {
    const publish = rig.connection.tx.flush.bind(rig.connection.tx);
    rig.connection.tx.flush = () => {
      const before = rig.front.tx.responses;
      const result = publish();
      if (rig.front.tx.responses !== before) t.deepEqual(rig.front.inUse(), []);
      return result;
    };
    for (let i = 0; i < 20; i++) rig.front.send(plainFrame(3000), { sizes: [1000, 2000] });
    rig.settle();
    t.is(rig.front.txResponses().length, 40);
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
    t.deepEqual(got.frame, frame);
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
