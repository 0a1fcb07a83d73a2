import fc from 'fast-check';
import { NetRxFlag } from '../../../shim/abi/io/netif.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { MAX_QUEUED_BYTES } from '../../../backends/net/rx-queue.js';
import { READONLY, RX_BUFFER_REF } from './fake-netfront.js';
import type { RxFragment } from './fake-netfront.js';
import { eitherForm } from './forms.js';
import { ipFrame, plainFrame, referenceSum } from './frames.js';
import { ALL_OFFLOADS } from './rig.js';
import type { Rig } from './rig.js';

const NEEDS_CSUM = 1;
const DATA_VALID = 2;
const TCPV4 = 1;
const TCPV6 = 4;
const ERROR = -1;

/** The frame the fragments of one packet hold, extras left out by the caller. */
function contents(rig: Rig, fragments: readonly RxFragment[]): Uint8Array {
  return Uint8Array.from(
    fragments.flatMap(({ id, offset, status }) => [...rig.front.rxBuffer(id).subarray(offset, offset + status)]),
  );
}

eitherForm('a frame goes into the next posted buffer, answered in its own slot', (t, rigged) => {
  rigged((rig) => {
    rig.front.postRx(4);
    rig.wire.send(plainFrame(100));
    rig.settle();
    const responses = rig.front.rxResponses();
    t.deepEqual(responses, [{ id: 0, offset: 0, flags: 0, status: 100 }]);
    t.deepEqual(contents(rig, responses), plainFrame(100));
    t.deepEqual(rig.front.inUse(), []);
  });
});

eitherForm('a frame longer than a page takes several slots, more_data on all but the last', (t, rigged) => {
  rigged((rig) => {
    fc.assert(
      fc.property(fc.integer({ min: 14, max: 17 * PAGE_SIZE - 100 }), (length) => {
        const count = Math.ceil(length / PAGE_SIZE);
        rig.front.postRx(count);
        rig.wire.send(plainFrame(length, length & 0xff));
        rig.settle();
        const responses = rig.front.rxResponses();
        t.is(responses.length, count);
        responses.forEach(({ flags }, i) => {
          t.is(flags, i < count - 1 ? NetRxFlag.more_data : 0);
        });
        t.deepEqual(contents(rig, responses), plainFrame(length, length & 0xff));
      }),
      { numRuns: 40 },
    );
  });
});

eitherForm('thousands of frames arrive in order, indexes wrapping', (t, rigged) => {
  rigged((rig) => {
    let next = 0;
    for (let round = 0; round < 200; round++) {
      rig.front.postRx(20);
      for (let i = 0; i < 20; i++) rig.wire.send(plainFrame(60 + ((round * 20 + i) % 1000)));
      rig.settle();
      for (const { status } of rig.front.rxResponses()) t.is(status, 60 + (next++ % 1000));
    }
    t.is(next, 4000);
  });
});

eitherForm('a checksum the link left blank is handed on as blank, a checked one as validated', (t, rigged) => {
  rigged((rig) => {
    rig.front.postRx(4);
    const { frame, transport } = ipFrame({ blank: true });
    rig.wire.send(frame, { flags: NEEDS_CSUM, start: transport, offset: 16 });
    rig.wire.send(plainFrame(60), { flags: DATA_VALID });
    rig.settle();
    t.deepEqual(
      rig.front.rxResponses().map(({ flags }) => flags),
      [NetRxFlag.csum_blank | NetRxFlag.data_validated, NetRxFlag.data_validated],
    );
  });
});

for (const version of [4, 6] as const) {
  eitherForm(`a blank checksum over IPv${version} is completed for a frontend that cannot do it itself`, (t, rigged) => {
    rigged(
      (rig) => {
        for (const protocol of [6, 17] as const) {
          rig.front.postRx(1);
          const { frame, transport } = ipFrame({ version, protocol, payload: 333, blank: true });
          rig.wire.send(frame, { flags: NEEDS_CSUM, start: transport, offset: protocol === 6 ? 16 : 6 });
          rig.settle();
          const [response] = rig.front.rxResponses();
          t.is(response!.flags, 0);
          t.deepEqual(contents(rig, [response!]), ipFrame({ version, protocol, payload: 333 }).frame);
        }
      },
      // The other protocol's offload keeps the link's switch on.
      { offloads: { ...ALL_OFFLOADS, ...(version === 4 ? { csum4: false } : { csum6: false }) } },
    );
  });
}

eitherForm('a sum that comes out as zero is written as all ones', (t, rigged) => {
  rigged(
    (rig) => {
      const { frame, transport } = ipFrame({ protocol: 17, payload: 8, blank: true });
      const without = referenceSum(frame.subarray(transport));
      const at = transport + 8;
      const value = ((frame[at]! << 8) | frame[at + 1]!) + (0xffff - without);
      const fixed = value > 0xffff ? value - 0xffff : value;
      frame.set([fixed >> 8, fixed & 0xff], at);
      rig.front.postRx(1);
      rig.wire.send(frame, { flags: NEEDS_CSUM, start: transport, offset: 6 });
      rig.settle();
      const got = contents(rig, rig.front.rxResponses());
      t.deepEqual([...got.subarray(transport + 6, transport + 8)], [0xff, 0xff]);
    },
    { offloads: { csum4: false, csum6: true, tso4: false, tso6: false } },
  );
});

for (const [version, gsoType, xenType] of [[4, TCPV4, 1], [6, TCPV6, 2]] as const) {
  eitherForm(`an unsegmented TCPv${version} frame carries its segment size in an extra after the first slot`, (t, rigged) => {
    rigged((rig) => {
      rig.front.postRx(20);
      const { frame, transport } = ipFrame({ version, payload: 20_000, blank: true });
      rig.wire.send(frame, { flags: NEEDS_CSUM, gsoType, gsoSize: 1448, start: transport, offset: 16 });
      rig.settle();
      const [first, extra, ...rest] = rig.front.rxResponses();
      const csum = NetRxFlag.csum_blank | NetRxFlag.data_validated;
      t.is(first!.flags, csum | NetRxFlag.extra_info | NetRxFlag.more_data);
      // type 1, no more extras; size; GSO type; no features.
      t.deepEqual(extra, { id: 1, offset: 1448, flags: xenType, status: 0 });
      t.deepEqual(rest.map(({ id }) => id), [2, 3, 4, 5]);
      t.deepEqual(contents(rig, [first!, ...rest]), frame);
    });
  });
}

eitherForm('an unsegmented frame for a frontend that cannot take it is dropped', (t, rigged) => {
  rigged(
    (rig) => {
      rig.front.postRx(20);
      rig.wire.send(ipFrame({ payload: 9000, blank: true }).frame, { flags: NEEDS_CSUM, gsoType: TCPV4, gsoSize: 1448 });
      rig.wire.send(plainFrame(60));
      rig.settle();
      t.deepEqual(rig.front.rxResponses().map(({ status }) => status), [60]);
      t.is(rig.stats.rxDropUnfit, 1);
    },
    { offloads: { ...ALL_OFFLOADS, tso4: false } },
  );
});

eitherForm('a frame of two pages is dropped for a frontend without scatter-gather', (t, rigged) => {
  rigged(
    (rig) => {
      rig.front.postRx(20);
      rig.wire.send(plainFrame(4097));
      rig.wire.send(plainFrame(4096));
      rig.settle();
      t.deepEqual(rig.front.rxResponses().map(({ status }) => status), [4096]);
    },
    { scatterGather: false },
  );
});

eitherForm('a frame waits until there are buffers for all of it, and the guest is asked for an event at the last of them', (t, rigged) => {
  rigged((rig) => {
    rig.front.postRx(2);
    rig.wire.send(plainFrame(3 * PAGE_SIZE));
    rig.settle();
    t.deepEqual(rig.front.rxResponses(), []);
    t.true(rig.connection.rx.armEvent());
    t.is(rig.front.rx.view.getUint32(4, true), 3);
    rig.front.postRx(1);
    t.false(rig.connection.rx.armEvent());
    rig.settle();
    t.is(rig.front.rxResponses().length, 3);
  });
});

eitherForm('the guest is told only when it asked to be', (t, rigged) => {
  rigged((rig) => {
    rig.front.postRx(8);
    rig.front.rx.view.setUint32(12, 3, true);
    for (let i = 0; i < 2; i++) rig.wire.send(plainFrame(60));
    rig.settle();
    t.is(rig.front.rung(), 0);
    rig.wire.send(plainFrame(60));
    rig.settle();
    t.is(rig.front.rung(), 1);
    rig.wire.send(plainFrame(60));
    rig.settle();
    t.is(rig.front.rung(), 0);
  });
});

eitherForm('E84: a guest that posts nothing costs at most 524288 bytes, loses old frames, and comes back after its stall', (t, rigged) => {
  rigged((rig) => {
    const { rx } = rig.connection;
    for (let round = 0; round < 70; round++) {
      // What the link's own queue does not take any more is lost, as with a tap.
      for (let i = 0; i < 2; i++) rig.wire.send(plainFrame(60_000));
      rig.elapse(1000);
      t.true(rx.queuedBytes <= MAX_QUEUED_BYTES);
      t.is(rx.stalled, round >= 60, `after ${round + 1} s`);
    }
    t.true(rig.stats.rxDropExpired > 0);
    t.is(rig.stats.rxStalls, 1);
    t.deepEqual(rig.reports, [{ kind: 'carrier', on: false }]);
    rig.front.postRx(200);
    rig.settle();
    t.deepEqual(rig.reports, [{ kind: 'carrier', on: false }, { kind: 'carrier', on: true }]);
    t.true(rig.front.rxResponses().length > 0);
  });
});

eitherForm('E85: a bad grant makes its slot negative, and the next frames arrive', (t, rigged) => {
  rigged((rig) => {
    rig.front.postRx(1);
    rig.front.postRx(1, 0x7fffffff);
    rig.front.postRx(3);
    rig.wire.send(plainFrame(3 * PAGE_SIZE));
    rig.wire.send(plainFrame(99));
    rig.settle();
    t.deepEqual(rig.front.rxResponses().map(({ status }) => status), [PAGE_SIZE, ERROR, PAGE_SIZE, 99]);
    t.is(rig.stats.rxDropGrant, 1);
    t.is(rig.stats.rxPackets, 1);
    t.deepEqual(rig.front.inUse(), []);
  });
});

eitherForm('E86: a read-only buffer gets a negative status, and its page is not written', (t, rigged) => {
  rigged((rig) => {
    rig.front.rxBuffer(0).fill(0xee);
    rig.front.grant(RX_BUFFER_REF, 256, READONLY);
    rig.front.postRx(1);
    rig.wire.send(plainFrame(200));
    rig.settle();
    t.deepEqual(rig.front.rxResponses().map(({ status }) => status), [ERROR]);
    t.true(rig.front.rxBuffer(0).every((byte) => byte === 0xee));
  });
});

eitherForm('E89: without feature-rx-notify a frame is dropped after 30 ms, and there is no stall', (t, rigged) => {
  rigged(
    (rig) => {
      rig.wire.send(plainFrame(60));
      rig.settle();
      rig.elapse(29, 5);
      t.is(rig.stats.rxDropExpired, 0);
      rig.elapse(2);
      t.is(rig.stats.rxDropExpired, 1);
      for (let i = 0; i < 100; i++) {
        rig.wire.send(plainFrame(60));
        rig.elapse(1000);
      }
      t.false(rig.connection.rx.stalled);
      t.deepEqual(rig.reports, []);
    },
    { notifies: false },
  );
});

eitherForm('E89: without feature-rx-notify posted buffers are found without an event', (t, rigged) => {
  rigged(
    (rig) => {
      rig.wire.send(plainFrame(60));
      rig.settle();
      t.true(rig.connection.rx.wakeAt <= rig.now + 2);
    },
    { notifies: false },
  );
});

eitherForm('E75: 257 receive buffers posted at once disable the vif', (t, rigged) => {
  rigged((rig) => {
    rig.wire.send(plainFrame(60));
    rig.front.postRx(257);
    rig.settle();
    t.is(rig.reports[0]?.kind, 'disabled');
    t.deepEqual(rig.front.rxResponses(), []);
    rig.front.send(plainFrame(60));
    rig.settle();
    t.deepEqual(rig.front.txResponses(), []);
  });
});

eitherForm('frames too short to be frames are dropped', (t, rigged) => {
  rigged((rig) => {
    rig.front.postRx(4);
    rig.wire.send(new Uint8Array(13));
    rig.wire.send(new Uint8Array(0));
    rig.settle();
    t.deepEqual(rig.front.rxResponses(), []);
    t.is(rig.stats.rxDropUnfit, 2);
  });
});

eitherForm('receive slots full of random words never throw, never hang', (t, rigged) => {
  const word = fc.nat(0xffffffff);
  fc.assert(
    fc.property(fc.array(fc.tuple(word, word), { maxLength: 256 }), fc.nat(600), (words, prod) => {
      rigged((rig) => {
        words.forEach(([a, b], i) => {
          rig.front.rx.view.setUint32(rig.front.rx.slot(i), a, true);
          rig.front.rx.view.setUint32(rig.front.rx.slot(i) + 4, b, true);
        });
        rig.front.rx.prod = prod;
        rig.front.rx.push();
        for (let i = 0; i < 5; i++) rig.wire.send(plainFrame(100 + i * 5000));
        rig.settle();
        t.true(rig.front.rxResponses().length <= 256);
      });
    }),
    { numRuns: 40 },
  );
});

eitherForm('an empty link is left alone until it has frames, and a batch that ends it loses none', (t, rigged) => {
  rigged((rig) => {
    let next = 0;
    // Batches grow to 32 reads: most of them find the link empty.
    for (const count of [1, 2, 5, 17, 40, 3, 1]) {
      t.true(rig.connection.rx.linkEmpty || next === 0);
      rig.front.postRx(count);
      for (let i = 0; i < count; i++) rig.wire.send(plainFrame(60 + next + i));
      rig.settle();
      for (const { status } of rig.front.rxResponses()) t.is(status, 60 + next++);
    }
    t.is(next, 69);
    t.is(rig.stats.linkErrors, 0);
    t.deepEqual(rig.front.inUse(), []);
  });
});
