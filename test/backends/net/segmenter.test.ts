/** Segmentation of TCP in software: each segment is held against sums and headers worked out without the code under test. */
import test from 'ava';
import { completeChecksum, sum16, sumLong } from '../../../backends/net/checksum.js';
import { Segmenter } from '../../../backends/net/segmenter.js';
import { VnetGso } from '../../../backends/net/vnet-header.js';
import { ipFrame, referenceSum, type IpFrameOptions } from './frames.js';

const ROOM = 200_000;
const PREFIX = 4;
const FIN = 1;
const PSH = 8;
const ACK = 16;
const CWR = 0x80;

interface Cut {
  readonly bytes: number;
  readonly segments: Buffer[];
}

function cut(frame: Uint8Array, gsoType: number, size: number, room = ROOM): Cut {
  const arena = Buffer.alloc(80_000 + ROOM);
  arena.set(frame, 12);
  const bytes = new Segmenter(arena).cut(12, frame.length, gsoType, size, 80_000, room, PREFIX);
  const segments: Buffer[] = [];
  for (let at = 80_000; at < 80_000 + bytes; ) {
    const length = arena.readUInt32BE(at);
    segments.push(arena.subarray(at + PREFIX, at + PREFIX + length));
    at += PREFIX + length;
  }
  return { bytes, segments };
}

/** The sum over pseudo-header and TCP, which is all ones in a segment that is in order. */
function tcpSum(segment: Buffer, version: 4 | 6, network: number, transport: number): number {
  const upper = segment.length - transport;
  const addresses = version === 4 ? segment.subarray(network + 12, network + 20) : segment.subarray(network + 8, network + 40);
  const pseudo = Buffer.concat([addresses, Uint8Array.of(0, 6, upper >> 8, upper & 255)]);
  return referenceSum(Buffer.concat([pseudo, segment.subarray(transport), Buffer.alloc(upper & 1)]));
}

const cases: readonly [string, IpFrameOptions, number][] = [
  ['IPv4', { version: 4, payload: 10_001 }, 1448],
  ['IPv6', { version: 6, payload: 10_001 }, 1428],
  ['IPv4 behind a VLAN tag, segments of an odd size', { version: 4, payload: 6000, vlan: true }, 999],
  ['IPv6 with extension headers', { version: 6, payload: 5000, extensions: [[0, 8], [60, 16]] }, 1000],
  ['as much as a frame can be', { version: 4, payload: 65_000 }, 1448],
  ['a single segment', { version: 4, payload: 100 }, 1448],
];

for (const [name, options, size] of cases) {
  test(`segments carry the payload in order, with lengths, sequence numbers and checksums of their own: ${name}`, (t) => {
    const version = options.version!;
    const { frame, transport } = ipFrame({ ...options, blank: true });
    const network = options.vlan === true ? 18 : 14;
    frame[transport + 13] = FIN | PSH | ACK | CWR;
    const { segments } = cut(frame, version === 4 ? VnetGso.TCPV4 : VnetGso.TCPV6, size);
    const end = transport + 20;
    t.is(segments.length, Math.ceil(options.payload! / size));
    t.true(Buffer.concat(segments.map((segment) => segment.subarray(end))).equals(Buffer.from(frame.subarray(end))));
    segments.forEach((segment, i) => {
      const last = i === segments.length - 1;
      t.is(segment.readUInt32BE(transport + 4), Buffer.from(frame).readUInt32BE(transport + 4) + i * size);
      t.is(segment[transport + 13], ACK | (last ? FIN | PSH : 0) | (i === 0 ? CWR : 0), `flags of ${i}`);
      t.is(tcpSum(segment, version, network, transport), 0xffff, `checksum of ${i}`);
      if (version === 4) {
        t.is(segment.readUInt16BE(network + 2), segment.length - network);
        t.is(segment.readUInt16BE(network + 4), 1 + i, 'id');
        t.is(referenceSum(segment.subarray(network, transport)), 0xffff, 'IP header');
      } else {
        t.is(segment.readUInt16BE(network + 4), segment.length - network - 40);
      }
      // All else is as the guest had it.
      t.true(segment.subarray(0, network).equals(Buffer.from(frame.subarray(0, network))));
      t.true(segment.subarray(transport, transport + 4).equals(Buffer.from(frame.subarray(transport, transport + 4))));
    });
  });
}

test('what is no TCP of the protocol announced, has no size, or needs too much room is not cut', (t) => {
  const { frame } = ipFrame({ payload: 5000, blank: true });
  t.is(cut(frame, VnetGso.TCPV6, 1000).bytes, 0);
  t.is(cut(frame, VnetGso.UDP, 1000).bytes, 0);
  t.is(cut(frame, VnetGso.TCPV4, 0).bytes, 0);
  t.is(cut(ipFrame({ protocol: 17, payload: 5000 }).frame, VnetGso.TCPV4, 1000).bytes, 0);
  t.is(cut(frame.subarray(0, 50), VnetGso.TCPV4, 1000).bytes, 0);
  const whole = 5 * (PREFIX + 54) + 5000;
  t.is(cut(frame, VnetGso.TCPV4, 1000, whole).bytes, whole);
  t.is(cut(frame, VnetGso.TCPV4, 1000, whole - 1).bytes, 0);
  t.is(cut(frame, VnetGso.TCPV4, 1).bytes, 0, 'segments of a byte');
});

test('a sum in the order of the machine is the sum in the order of the network, whatever the length', (t) => {
  const bytes = Buffer.alloc(70_000).map((_, i) => (i * 151 + (i >> 7)) & 255);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const length of [0, 1, 2, 3, 4, 5, 6, 7, 8, 33, 1447, 32_768, 32_771, 65_535, 69_990]) {
    for (const at of [0, 1, 2, 7]) t.is(sumLong(view, at, length), sum16(bytes, at, length), `${length} bytes at ${at}`);
  }
  const ones = new DataView(new Uint8Array(69_000).fill(255).buffer);
  t.is(sumLong(ones, 0, 69_000), 0xffff);
  t.false(completeChecksum(view, 0, 100, 90, 9), 'a field that ends behind the frame');
});
