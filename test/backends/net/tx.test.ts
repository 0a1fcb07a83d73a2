import fc from 'fast-check';
import { NetTxFlag } from '../../../shim/abi/io/netif.js';
import { RX_BUFFER_REF, TX_BUFFER_REF, gsoExtra } from './fake-netfront.js';
import { eitherForm } from './forms.js';
import { ipFrame, plainFrame } from './frames.js';

const OKAY = 0;
const NULL = 1;

eitherForm('a frame in one slot reaches the link as it was, and its slot is answered', (t, rigged) => {
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

eitherForm('a frame over several slots is gathered in order, whatever their sizes', (t, rigged) => {
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

eitherForm('thousands of frames pass through the ring, indexes wrapping', (t, rigged) => {
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

eitherForm('a blank checksum becomes an offloaded one, for TCP and UDP over both protocols', (t, rigged) => {
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

eitherForm('headers behind a VLAN tag and IPv6 extensions are found', (t, rigged) => {
  rigged((rig) => {
    const { frame, transport } = ipFrame({
      version: 6, vlan: true, blank: true, extensions: [[0, 8], [43, 24], [51, 12], [60, 16]],
    });
    rig.front.send(frame, { flags: NetTxFlag.csum_blank });
    rig.settle();
    t.is(rig.wire.receive()?.header.getUint16(6, true), transport);
  });
});

eitherForm('headers spread over many slots are parsed from the private copy', (t, rigged) => {
  rigged((rig) => {
    const { frame, transport } = ipFrame({ version: 4, payload: 400, blank: true });
    rig.front.send(frame, { sizes: [14, 3, 0, 9, 2, 11, frame.length - 39], flags: NetTxFlag.csum_blank });
    rig.settle();
    const got = rig.wire.receive()!;
    t.is(got.header.getUint16(6, true), transport);
    t.deepEqual(got.frame, frame);
  });
});

eitherForm('a segmentation request reaches the link with size, header length and checksum place', (t, rigged) => {
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

eitherForm('a frame behind one with a bad grant is sent from its own pages', (t, rigged) => {
  rigged((rig) => {
    rig.front.revoke(TX_BUFFER_REF + 1);
    rig.front.send(plainFrame(1000, 1), { sizes: [500, 500] });
    rig.front.send(plainFrame(700, 2), { sizes: [300, 400] });
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, plainFrame(700, 2));
    t.deepEqual(rig.front.inUse(), []);
  });
});

eitherForm('grants of other entries of the table serve just as well: a receive buffer sent as a frame', (t, rigged) => {
  rigged((rig) => {
    rig.front.rxBuffer(3).set(plainFrame(80));
    rig.front.putTx({ gref: RX_BUFFER_REF + 3, size: 80 });
    rig.front.pushTx();
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, plainFrame(80));
  });
});

eitherForm('a page is unpinned before its response is published', (t, rigged) => {
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

eitherForm('a link that is full loses frames, which are answered, and takes the next ones when it has room', (t, rigged) => {
  rigged((rig) => {
    let sent = 0;
    for (; rig.stats.txDropLink === 0; sent += 4) {
      // Several at once, and one that is alone.
      for (let i = 0; i < 3; i++) rig.front.send(plainFrame(3000), { sizes: [1000, 2000] });
      rig.settle();
      rig.front.send(plainFrame(60));
      rig.settle();
      t.is(rig.front.txResponses().length, 7);
      t.true(sent < 1000);
    }
    t.is(rig.stats.txPackets + rig.stats.txDropLink, sent);
    let received = 0;
    while (rig.wire.receive() !== undefined) received++;
    t.is(received, rig.stats.txPackets);
    rig.front.send(plainFrame(90));
    rig.settle();
    t.deepEqual(rig.wire.receive()?.frame, plainFrame(90));
    t.deepEqual(rig.front.inUse(), []);
  });
});
