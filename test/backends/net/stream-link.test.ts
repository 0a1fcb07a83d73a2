/** Links that end in a stream socket: frames, backpressure, peers that go, come, and lie. */
import test from 'ava';
import { mkdtempSync, rmSync, existsSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLink, openLinkOf } from '../../../backends/net/links.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { silentLog } from '../../../shim/observe/log.js';
import { NetTxFlag } from '../../../shim/abi/io/netif.js';
import { gsoExtra } from './fake-netfront.js';
import { ipFrame, plainFrame } from './frames.js';
import { until, VifLab } from './vif-lab.js';

/** The far end of a stream: cuts it into frames, sends frames. */
class Peer {
  readonly frames: Buffer[] = [];
  #held = Buffer.alloc(0);
  closed = false;

  constructor(readonly socket: Socket) {
    socket.on('data', (chunk) => {
      this.#held = Buffer.concat([this.#held, chunk]);
      while (this.#held.length >= 4 && this.#held.length >= 4 + this.#held.readUInt32BE(0)) {
        const length = this.#held.readUInt32BE(0);
        this.frames.push(this.#held.subarray(4, 4 + length));
        this.#held = this.#held.subarray(4 + length);
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
  }

  send(frame: Uint8Array): void {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(frame.length);
    this.socket.write(Buffer.concat([head, frame]));
  }
}

class Listener {
  readonly folder = mkdtempSync(join(tmpdir(), 'xenshim-link-'));
  readonly path = join(this.folder, 'socket');
  readonly peers: Peer[] = [];
  #server: Server | undefined;

  async listen(): Promise<void> {
    this.#server = createServer((socket) => {
      this.peers.push(new Peer(socket));
    });
    await new Promise<void>((resolve) => this.#server!.listen(this.path, resolve));
  }

  async peer(n: number): Promise<Peer> {
    await until(() => this.peers.length > n);
    return this.peers[n]!;
  }

  stop(): void {
    this.#server?.close();
    for (const { socket } of this.peers) socket.destroy();
  }

  close(): void {
    this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const BLANK = NetTxFlag.csum_blank | NetTxFlag.data_validated;

/** The relay hears of a new peer, and of the carrier, by messages: waits until frames pass both ways. */
async function reached(lab: VifLab, peer: Peer): Promise<void> {
  await until(() => {
    lab.front.send(plainFrame(77));
    return peer.frames.length > 0;
  });
  const before = lab.backend.stats().rxPackets;
  lab.front.postRx(64);
  await until(() => {
    peer.send(plainFrame(78));
    return lab.backend.stats().rxPackets > before;
  });
  await until(() => lab.front.tx.responses === lab.front.tx.prod);
  lab.front.txResponses();
  // What is still on its way.
  await sleep(50);
  await lab.disconnect();
  await lab.connect();
  await sleep(50);
  peer.frames.length = 0;
}

async function exchange(lab: VifLab, peer: Peer, count: number): Promise<string[]> {
  const wrong: string[] = [];
  for (let i = 0; i < count; i++) {
    const out = plainFrame(60 + i * 977, i);
    peer.frames.length = 0;
    lab.front.send(out);
    await until(() => peer.frames.length === 1, () => `frame ${i} was not sent`);
    if (!peer.frames[0]!.equals(out)) wrong.push(`sent ${i}`);
    await until(() => lab.front.tx.responses === lab.front.tx.prod);
    lab.front.txResponses();
    const into = plainFrame(90 + i * 941, 255 - i);
    lab.front.postRx(Math.ceil(into.length / 4096));
    peer.send(into);
    await until(() => lab.front.rx.responses === lab.front.rx.prod, () => `frame ${i} was not received`);
    const bytes = lab.front.rxResponses().flatMap(({ id, status }) => [...lab.front.rxBuffer(id).subarray(0, status)]);
    if (!Buffer.from(bytes).equals(into)) wrong.push(`received ${i}`);
  }
  return wrong;
}

/** A vif on a stream, connected, and who listens at the other end. */
async function onStream(): Promise<{ readonly listener: Listener; readonly lab: VifLab }> {
  const listener = new Listener();
  await listener.listen();
  const lab = new VifLab({ link: openLink(`socket=${listener.path}`) });
  await lab.connect();
  return { listener, lab };
}

test('frames of all sizes pass both ways, each after its length, and segmentation is offered', async (t) => {
  const { listener, lab } = await onStream();
  t.deepEqual([lab.key('feature-gso-tcpv4'), lab.key('feature-gso-tcpv6'), lab.key('feature-sg')], ['1', '1', '1']);
  const peer = await listener.peer(0);
  t.deepEqual(await exchange(lab, peer, 60), []);
  t.is(await lab.close(), 0);
  await until(() => peer.closed);
  listener.close();
});

test('a blank checksum is filled in', async (t) => {
  const { listener, lab } = await onStream();
  const peer = await listener.peer(0);
  for (const version of [4, 6] as const) {
    for (const protocol of [6, 17] as const) {
      for (const payload of [0, 1, 2, 3, 777]) {
        lab.front.send(ipFrame({ version, protocol, payload, blank: true }).frame, { flags: BLANK });
        await until(() => peer.frames.length > 0);
        t.true(peer.frames.shift()!.equals(ipFrame({ version, protocol, payload }).frame), `IPv${version} ${protocol} ${payload}`);
      }
    }
  }
  t.is(await lab.close(), 0);
  listener.close();
});

test('an unsegmented frame arrives as its segments, whole frames follow it, and one that cannot be cut goes nowhere', async (t) => {
  const { listener, lab } = await onStream();
  const peer = await listener.peer(0);
  for (const [version, type] of [[4, 1], [6, 2]] as const) {
    const { frame, transport } = ipFrame({ version, payload: 60_000, blank: true });
    // Segments smaller than a third of their headers: more bytes of headers than anybody needs.
    lab.front.send(frame, { flags: BLANK, extras: [gsoExtra(20, type)] });
    lab.front.send(frame, { flags: BLANK, extras: [gsoExtra(1400, type)] });
    await until(() => peer.frames.length >= 43, () => `${peer.frames.length} segments`);
    const end = transport + 20;
    t.true(Buffer.concat(peer.frames.map((segment) => segment.subarray(end))).equals(Buffer.from(frame.subarray(end))));
    t.deepEqual(peer.frames.map(({ length }) => length), [...new Array<number>(42).fill(1400 + end), 60_000 - 42 * 1400 + end]);
    peer.frames.length = 0;
    lab.front.send(plainFrame(99));
    await until(() => peer.frames.length > 0);
    t.true(peer.frames.shift()!.equals(Buffer.from(plainFrame(99))));
    await until(() => lab.front.tx.responses === lab.front.tx.prod);
    lab.front.txResponses();
  }
  t.is(await lab.close(), 0);
  listener.close();
});

test('a burst of unsegmented frames waits for the stream and arrives whole; a peer that reads no more holds up nobody', async (t) => {
  const { listener, lab } = await onStream();
  const peer = await listener.peer(0);
  t.deepEqual(await exchange(lab, peer, 1), []);
  peer.frames.length = 0;
  const { frame, transport } = ipFrame({ payload: 60_000, blank: true });
  const send = (): void => void lab.front.send(frame, { flags: BLANK, extras: [gsoExtra(1448)] });
  const answered = async (): Promise<void> => {
    await until(() => lab.front.tx.responses === lab.front.tx.prod, () => 'the guest waits for the peer');
    lab.front.txResponses();
  };
  const SEGMENTS = 42;
  /** As many as the frontend has pages for. */
  const BURST = 7;
  for (let i = 0; i < BURST; i++) send();
  await answered();
  await until(() => peer.frames.length === BURST * SEGMENTS, () => `${peer.frames.length} segments`);
  const payload = Buffer.from(frame.subarray(transport + 20));
  for (let i = 0; i < BURST; i++) {
    const segments = peer.frames.slice(i * SEGMENTS, (i + 1) * SEGMENTS).map((segment) => segment.subarray(transport + 20));
    t.true(Buffer.concat(segments).equals(payload), `frame ${i}`);
  }
  peer.socket.pause();
  for (let i = 0; i < 12; i++) {
    for (let k = 0; k < BURST; k++) send();
    await answered();
  }
  t.is(lab.backend.stats().txDropLink, 0);
  peer.socket.resume();
  // Frames that were held are there, the others are not, and new ones pass.
  await until(() => peer.frames.length >= (BURST + 2) * SEGMENTS);
  await sleep(300);
  peer.frames.length = 0;
  t.deepEqual(await exchange(lab, peer, 3), []);
  t.is(await lab.close(), 0);
  listener.close();
});

test('a burst from the peer waits until the guest has buffers, and arrives whole and in order', async (t) => {
  const { listener, lab } = await onStream();
  const peer = await listener.peer(0);
  // The carrier reaches the relay by a message of its own.
  t.deepEqual(await exchange(lab, peer, 1), []);
  for (let i = 0; i < 400; i++) peer.send(plainFrame(1500, i & 255));
  let next = 0;
  await until(() => {
    lab.front.postRx(Math.min(64, 256 - ((lab.front.rx.prod - lab.front.rx.cons) >>> 0)));
    for (const { id, status } of lab.front.rxResponses()) {
      if (!Buffer.from(lab.front.rxBuffer(id).subarray(0, status)).equals(plainFrame(1500, next & 255))) throw new Error(`frame ${next}`);
      next++;
    }
    return next === 400;
  }, () => `${next} frames`);
  t.is(lab.backend.stats().rxDropExpired, 0);
  t.is(await lab.close(), 0);
  listener.close();
});

test('a peer that goes is found again, and frames pass as before', async (t) => {
  const { listener, lab } = await onStream();
  const first = await listener.peer(0);
  t.deepEqual(await exchange(lab, first, 2), []);
  listener.stop();
  for (let i = 0; i < 50; i++) lab.front.send(plainFrame(1000));
  await until(() => lab.front.tx.responses === lab.front.tx.prod);
  lab.front.txResponses();
  await listener.listen();
  const second = await listener.peer(1);
  await reached(lab, second);
  t.deepEqual(await exchange(lab, second, 3), []);
  t.is(await lab.close(), 0);
  listener.close();
});

test('a peer that announces an impossible length is cut off, and the next one is served', async (t) => {
  const { listener, lab } = await onStream();
  const first = await listener.peer(0);
  first.socket.write(Buffer.from('ffffffff00', 'hex'));
  await until(() => first.closed);
  const second = await listener.peer(1);
  // A runt is no reason.
  second.send(new Uint8Array(5));
  await reached(lab, second);
  t.deepEqual(await exchange(lab, second, 2), []);
  t.is(await lab.close(), 0);
  listener.close();
});

test('a server takes one peer after the other, over a socket left behind, which goes with it', async (t) => {
  const listener = new Listener();
  await listener.listen();
  // A socket nobody listens on any more: what a killed program leaves.
  const { path } = listener;
  const stale = createServer();
  await new Promise<void>((resolve) => stale.listen(`${path}.x`, resolve));
  const spec = { kind: 'socket', path: `${path}.s`, server: true } as const;
  const around = { domid: 1, index: 0, queues: 1, log: silentLog };
  const lab = new VifLab({ link: openLinkOf(spec, around) });
  await lab.connect();
  t.is(t.throws(() => openLinkOf(spec, around), { instanceOf: OperatorError }).code, 'SOCKET_LISTEN');
  const one = new Peer(connect(`${path}.s`));
  await reached(lab, one);
  t.deepEqual(await exchange(lab, one, 2), []);
  const two = new Peer(connect(`${path}.s`));
  one.socket.destroy();
  await reached(lab, two);
  t.deepEqual(await exchange(lab, two, 2), []);
  t.is(await lab.close(), 0);
  t.false(existsSync(`${path}.s`));
  stale.close();
  listener.close();
});

test('a path that is none, or nobody listens at, is the operator\'s mistake', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xenshim-link-'));
  const code = (text: string): string => t.throws(() => openLink(text), { instanceOf: OperatorError }).code;
  t.is(code(`socket=${folder}/none`), 'SOCKET_CONNECT');
  t.is(code(`socket=/${'x'.repeat(120)}`), 'SOCKET_PATH');
  writeFileSync(`${folder}/file`, '');
  t.is(code(`socket=${folder}/file`), 'SOCKET_CONNECT');
  t.is(code('socket'), 'VIF_LINK');
  t.is(code('user=x'), 'VIF_LINK');
  rmSync(folder, { recursive: true });
});
