import test from 'ava';
import { HashSettings } from '../../../backends/net/hash-settings.js';
import { MAX_XDP_HEADROOM } from '../../../backends/net/features.js';
import { Toeplitz } from '../../../backends/net/toeplitz.js';
import { NetRxFlag } from '../../../shim/abi/io/netif.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { ipFrame, plainFrame } from './frames.js';
import { rigged, type Rig, type VnetFields } from './rig.js';

const KEY = Uint8Array.from({ length: 40 }, (_, i) => (i * 37 + 11) & 255);

interface Extra {
  readonly type: number;
  readonly more: boolean;
  readonly body: number;
  readonly word: number;
}

interface Taken {
  readonly bytes: Buffer;
  readonly offset: number;
  readonly extras: readonly Extra[];
}

/** Takes one frame off the ring as a frontend does: first slot, extras, the other slots. */
function take(rig: Rig): Taken | undefined {
  const { view } = rig.front.rx;
  const at = rig.front.rx.cons;
  const slots = rig.front.rxResponses();
  const [first] = slots;
  if (first === undefined) return undefined;
  const parts = [rig.front.rxBuffer(first.id).slice(first.offset, first.offset + first.status)];
  const extras: Extra[] = [];
  let i = 1;
  for (let more = (first.flags & NetRxFlag.extra_info) !== 0; more; i++) {
    const slot = rig.front.rx.slot((at + i) >>> 0);
    more = (view.getUint8(slot + 1) & 1) !== 0;
    extras.push({ type: view.getUint8(slot), more, body: view.getUint16(slot + 2, true), word: view.getUint32(slot + 4, true) });
  }
  for (; i < slots.length; i++) {
    const { id, offset, status } = slots[i]!;
    parts.push(rig.front.rxBuffer(id).slice(offset, offset + status));
  }
  return { bytes: Buffer.concat(parts), offset: first.offset, extras };
}

function receive(rig: Rig, frame: Uint8Array, header?: VnetFields): Taken | undefined {
  rig.front.postRx(24);
  rig.wire.send(frame, header);
  rig.settle();
  return take(rig);
}

for (const length of [60, PAGE_SIZE - 256, PAGE_SIZE - 255, 3 * PAGE_SIZE]) {
  test(`a frame of ${length} bytes lies behind the headroom asked for, and an extra slot says how much it is`, (t) => {
    rigged((rig) => {
      const frame = plainFrame(length);
      const taken = receive(rig, frame)!;
      t.is(taken.offset, 256);
      t.true(taken.bytes.equals(frame));
      t.deepEqual(taken.extras, [{ type: 5, more: false, body: 256, word: 0 }]);
    }, { live: { xdpHeadroom: 256 } });
  });
}

test('headroom may change between two frames, up to what a page can give', (t) => {
  rigged((rig) => {
    const frame = plainFrame(900);
    t.deepEqual(receive(rig, frame)!.extras, []);
    rig.connection.rx.settings = { up: true, xdpHeadroom: MAX_XDP_HEADROOM };
    const far = receive(rig, frame)!;
    t.is(far.offset, MAX_XDP_HEADROOM);
    t.true(far.bytes.equals(frame));
    rig.connection.rx.settings = { up: true, xdpHeadroom: 0 };
    t.deepEqual(receive(rig, frame)!.extras, []);
  });
});

test('a headroom that makes two slots of a frame drops it for a frontend without scatter-gather', (t) => {
  rigged((rig) => {
    t.is(receive(rig, plainFrame(4000)), undefined);
    t.not(receive(rig, plainFrame(3800)), undefined);
    t.is(rig.stats.rxDropUnfit, 1);
  }, { scatterGather: false, live: { xdpHeadroom: 256 } });
});

for (const version of [4, 6] as const) {
  test(`hash, segmentation and headroom of a TCPv${version} frame come in one row of extras, by their types`, (t) => {
    rigged((rig) => {
      const settings = new HashSettings(rig.memory);
      settings.setAlgorithm(1);
      settings.setFlags(15);
      settings.setKey(KEY);
      const { frame, transport } = ipFrame({ version, payload: 9000, blank: true });
      const taken = receive(rig, frame, { flags: 1, gsoType: version === 4 ? 1 : 4, gsoSize: 1400, start: transport, offset: 16 })!;
      const toeplitz = new Toeplitz();
      toeplitz.setKey(KEY);
      const addresses = version === 4 ? frame.subarray(26, 34) : frame.subarray(22, 54);
      const input = Uint8Array.from([...addresses, ...frame.subarray(transport, transport + 4)]);
      t.deepEqual(taken.extras, [
        { type: 1, more: true, body: 1400, word: version === 4 ? 1 : 2 },
        { type: 4, more: true, body: (version === 4 ? 1 : 3) | 0x100, word: toeplitz.hash(input, 0, input.length) },
        { type: 5, more: false, body: 64, word: 0 },
      ]);
      t.true(taken.bytes.equals(frame));
    }, { live: { xdpHeadroom: 64 } });
  });
}

test('a frame that none of the wanted hash types fits has no hash', (t) => {
  rigged((rig) => {
    const settings = new HashSettings(rig.memory);
    settings.setAlgorithm(1);
    settings.setFlags(2);
    settings.setKey(KEY);
    t.deepEqual(receive(rig, plainFrame(100))!.extras, []);
    t.deepEqual(receive(rig, ipFrame({ protocol: 17 }).frame)!.extras, []);
    t.deepEqual(receive(rig, ipFrame({ version: 6 }).frame)!.extras, []);
    t.is(receive(rig, ipFrame().frame)!.extras.length, 1);
    settings.setFlags(1);
    t.is(receive(rig, ipFrame({ protocol: 17 }).frame)!.extras[0]!.body, 0x100);
    settings.setAlgorithm(0);
    t.deepEqual(receive(rig, ipFrame().frame)!.extras, []);
  });
});

test('a link taken down drops frames both ways and counts them, and every slot is answered', (t) => {
  rigged((rig) => {
    const { tx, rx } = rig.connection;
    tx.settings = rx.settings = { up: false, xdpHeadroom: 0 };
    rig.front.send(plainFrame(5000));
    rig.settle();
    t.deepEqual(rig.front.txResponses().map(({ status }) => status), [0, 0]);
    t.is(rig.wire.receive(), undefined);
    t.is(receive(rig, plainFrame(100)), undefined);
    t.deepEqual([rig.stats.txDropDown, rig.stats.rxDropDown], [1, 1]);
    t.deepEqual(rig.front.inUse(), []);
    tx.settings = rx.settings = { up: true, xdpHeadroom: 0 };
    rig.front.send(plainFrame(5000));
    rig.settle();
    t.is(rig.wire.receive()!.frame.length, 5000);
    t.not(receive(rig, plainFrame(100)), undefined);
  });
});
