import test from 'ava';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCapture } from '../../../backends/net/capture.js';
import { CAPTURE_RING_BYTES, CaptureReader, CaptureWriter } from '../../../backends/net/capture-ring.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { silentLog } from '../../../shim/observe/log.js';
import { plainFrame } from './frames.js';
import { until, VifLab } from './vif-lab.js';

interface Packet {
  readonly data: Buffer;
  readonly length: number;
  readonly direction: number;
  readonly nanoseconds: bigint;
}

/** Reads a pcapng file as its specification has it; throws at whatever does not fit. */
function parse(file: Buffer): { packets: Packet[]; name: string; snapLength: number; dropped: bigint } {
  const found = { packets: [] as Packet[], name: '', snapLength: 0, dropped: -1n };
  const options = (body: Buffer): Map<number, Buffer> => {
    const all = new Map<number, Buffer>();
    for (let at = 0; at < body.length; ) {
      const code = body.readUInt16LE(at);
      const length = body.readUInt16LE(at + 2);
      if (code === 0) break;
      all.set(code, body.subarray(at + 4, at + 4 + length));
      at += 4 + ((length + 3) & ~3);
    }
    return all;
  };
  for (let at = 0; at < file.length; ) {
    const type = file.readUInt32LE(at);
    const length = file.readUInt32LE(at + 4);
    if (length % 4 !== 0 || file.readUInt32LE(at + length - 4) !== length) throw new Error(`block at ${at}`);
    const body = file.subarray(at + 8, at + length - 4);
    if (at === 0 && (type !== 0x0a0d0d0a || body.readUInt32LE(0) !== 0x1a2b3c4d)) throw new Error('no section');
    if (type === 1) {
      if (body.readUInt16LE(0) !== 1) throw new Error('not Ethernet');
      found.snapLength = body.readUInt32LE(4);
      const all = options(body.subarray(8));
      found.name = all.get(2)!.toString();
      if (all.get(9)![0] !== 9) throw new Error('not nanoseconds');
    } else if (type === 6) {
      const kept = body.readUInt32LE(12);
      const nanoseconds = (BigInt(body.readUInt32LE(4)) << 32n) | BigInt(body.readUInt32LE(8));
      const flags = options(body.subarray(20 + ((kept + 3) & ~3))).get(2)!.readUInt32LE(0);
      found.packets.push({ data: body.subarray(20, 20 + kept), length: body.readUInt32LE(16), direction: flags & 3, nanoseconds });
    } else if (type === 5) {
      found.dropped = options(body.subarray(12)).get(5)!.readBigUInt64LE(0);
    }
    at += length;
  }
  return found;
}

test('every frame both ways is in the file, whole, in order, with its direction and time', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xenshim-pcap-'));
  const file = join(folder, 'vif.pcapng');
  const started = BigInt(Date.now()) * 1_000_000n;
  const capture = openCapture({ file, name: 'vif1.0', queues: 1, log: silentLog });
  const lab = new VifLab({ capture });
  await lab.connect();
  const expected: { direction: number; bytes: Uint8Array }[] = [];
  for (let i = 0; i < 40; i++) {
    const out = plainFrame(60 + i * 1500, i);
    lab.front.send(out);
    await until(() => lab.wire.receive() !== undefined);
    lab.front.txResponses();
    expected.push({ direction: 2, bytes: out });
    const into = plainFrame(70 + i * 1400, 200 - i);
    lab.front.postRx(Math.ceil(into.length / 4096));
    lab.wire.send(into);
    await until(() => lab.front.rx.responses === lab.front.rx.prod);
    lab.front.rxResponses();
    expected.push({ direction: 1, bytes: into });
  }
  t.is(await lab.close(), 0);
  const { packets, name, snapLength, dropped } = parse(readFileSync(file));
  t.deepEqual([name, snapLength, dropped, packets.length], ['vif1.0', 262_144, 0n, 80]);
  packets.forEach(({ data, direction, length }, i) => {
    if (!data.equals(expected[i]!.bytes) || direction !== expected[i]!.direction || length !== data.length) t.fail(`packet ${i}`);
  });
  const times = packets.map(({ nanoseconds }) => nanoseconds);
  t.true(times.every((time, i) => i === 0 || time >= times[i - 1]!));
  t.true(times[0]! > started - 2_000_000_000n && times.at(-1)! < started + 120_000_000_000n);
  rmSync(folder, { recursive: true });
});

test('a snap length cuts frames in the file, not on the link', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xenshim-pcap-'));
  const file = join(folder, 'vif.pcapng');
  const lab = new VifLab({ capture: openCapture({ file, name: 'x', queues: 1, snapLength: 96, log: silentLog }) });
  await lab.connect();
  const frame = plainFrame(9000);
  lab.front.send(frame);
  let got: Uint8Array | undefined;
  await until(() => (got = lab.wire.receive()?.frame) !== undefined);
  t.is(got!.length, 9000);
  await lab.close();
  const [packet] = parse(readFileSync(file)).packets;
  t.is(packet!.length, 9000);
  t.true(packet!.data.equals(frame.subarray(0, 96)));
  rmSync(folder, { recursive: true });
});

test('a reader that is too slow costs the capture frames, never the queue its time', (t) => {
  const memory = new SharedArrayBuffer(CAPTURE_RING_BYTES);
  const writer = new CaptureWriter(memory, 65_535, new Int32Array(new SharedArrayBuffer(8)));
  const reader = new CaptureReader(memory);
  const frame = plainFrame(30_001);
  for (let i = 0; i < 500; i++) writer.frame(1, frame, 0, frame.length);
  const kept = 500 - reader.dropped;
  t.true(kept > 100 && kept < 150, `${kept} kept`);
  let whole = 0;
  t.is(reader.drain(({ data }) => (whole += Buffer.from(data).equals(frame) ? 1 : 0)), kept);
  t.is(whole, kept);
  // Round the ring many times, in step with the reader.
  for (let i = 0; i < 1000; i++) {
    const length = 60 + ((i * 7919) % 60_000);
    const next = plainFrame(length, i & 255);
    writer.frame(2, next, 0, length);
    let same = false;
    reader.drain(({ data, direction }) => {
      same = direction === 2 && Buffer.from(data).equals(next);
    });
    if (!same) t.fail(`frame ${i}`);
  }
  t.is(500 - reader.dropped, kept);
});

test('a file that cannot be written is the operator\'s mistake', (t) => {
  const open = () => openCapture({ file: '/proc/none/x.pcap', name: 'x', queues: 1, log: silentLog });
  t.is(t.throws(open, { instanceOf: OperatorError }).code, 'PCAP_FILE');
});
