/** A script for a network namespace of its own: runs one scenario on a real tap and prints what it saw as JSON. */
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { readFileSync, readSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Link } from '../../../backends/net/link.js';
import { openLink } from '../../../backends/net/links.js';
import { openTap } from '../../../backends/net/tap.js';
import { NetRxFlag, NetTxFlag } from '../../../shim/abi/io/netif.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { gsoExtra, RX_BUFFERS } from './fake-netfront.js';
import { ipFrame, referenceSum } from './frames.js';
import { until, VifLab } from './vif-lab.js';

type Seen = Record<string, unknown>;

const GUEST_MAC = '00:16:3e:00:00:01';
/** What ipFrame puts into its frames. */
const GUEST_IP = '10.0.0.1';
const HOST_IP = '10.0.0.2';

/** Second argument: the form of the link. */
const plain = process.argv[3] === 'plain';

const tap0 = (queues = 1): Link => ({ ...openLink('tap=tap0', { queues }), plain });

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' });

interface LinkState {
  readonly flags: readonly string[];
  readonly address: string;
  readonly operstate: string;
  readonly mtu: number;
}

function linkState(name: string): LinkState | undefined {
  const all = JSON.parse(ip('-j', 'link')) as (LinkState & { ifname: string })[];
  return all.find(({ ifname }) => ifname === name);
}

function snmp(protocol: string, counter: string): number {
  const [names, values] = readFileSync('/proc/net/snmp', 'utf8').split('\n').filter((line) => line.startsWith(`${protocol}: `));
  return Number(values!.split(' ')[names!.split(' ').indexOf(counter)]);
}

/** The host takes up to a second to believe in a new carrier, and drops what is sent before. */
async function inOperation(name: string): Promise<void> {
  while (linkState(name)?.operstate !== 'UP') await sleep(20);
  await sleep(20);
}

/** A vif on tap0, the host's stack at its other end. */
async function connected(): Promise<{ lab: VifLab; hostMac: number[] }> {
  ip('link', 'set', 'lo', 'up');
  const lab = new VifLab({ link: tap0() });
  ip('addr', 'add', `${HOST_IP}/24`, 'dev', 'tap0');
  ip('neigh', 'add', GUEST_IP, 'lladdr', GUEST_MAC, 'dev', 'tap0');
  await lab.connect();
  await inOperation('tap0');
  const hostMac = linkState('tap0')!.address.split(':').map((byte) => Number.parseInt(byte, 16));
  return { lab, hostMac };
}

interface Received {
  readonly frame: Buffer;
  readonly flags: number;
  readonly gsoSize: number;
}

/** Takes whole frames off the receive ring, and keeps it full of buffers. */
class Receiver {
  readonly frames: Received[] = [];

  constructor(readonly lab: VifLab) {
    lab.front.postRx(RX_BUFFERS);
  }

  poll(): void {
    const { front } = this.lab;
    const fragments = front.rxResponses();
    for (let i = 0; i < fragments.length; ) {
      const first = fragments[i++]!;
      const parts = [front.rxBuffer(first.id).slice(0, first.status)];
      let gsoSize = 0;
      // An extra's size stands where a response has its offset.
      if ((first.flags & NetRxFlag.extra_info) !== 0) gsoSize = fragments[i++]!.offset;
      for (let { flags } = first; (flags & NetRxFlag.more_data) !== 0; ) {
        const next = fragments[i++]!;
        parts.push(front.rxBuffer(next.id).slice(0, next.status));
        ({ flags } = next);
      }
      this.frames.push({ frame: Buffer.concat(parts), flags: first.flags, gsoSize });
    }
    front.postRx(fragments.length);
  }
}

async function bound(socket: Socket, port: number): Promise<void> {
  await new Promise<void>((resolve) => socket.bind(port, HOST_IP, resolve));
}

/** UDP both ways with checksums left to the other side. */
async function udp(): Promise<Seen> {
  const { lab, hostMac } = await connected();
  const receiver = new Receiver(lab);
  const socket = createSocket('udp4');
  const got: string[] = [];
  socket.on('message', (message) => got.push(message.toString('hex')));
  await bound(socket, 0x5678);
  const expected: string[] = [];
  for (const payload of [1, 100, 1400]) {
    const { frame, transport } = ipFrame({ protocol: 17, payload, blank: true });
    frame.set(hostMac);
    expected.push(Buffer.from(frame.subarray(transport + 8)).toString('hex'));
    lab.front.send(frame, { flags: NetTxFlag.csum_blank | NetTxFlag.data_validated });
  }
  await until(() => got.length === 3);
  const wrong = ipFrame({ protocol: 17, payload: 50, blank: true }).frame;
  wrong.set(hostMac);
  // Not marked as blank: the host has to see that it is wrong.
  lab.front.send(wrong);
  await until(() => snmp('Udp', 'InCsumErrors') === 1);

  socket.send(Buffer.from('to the guest'), 7, GUEST_IP);
  let answer: Received | undefined;
  await until(() => {
    receiver.poll();
    answer = receiver.frames.find(({ frame }) => frame.includes('to the guest'));
    return answer !== undefined;
  });
  socket.close();
  await lab.close();
  return { same: got.join() === expected.join(), answerFlags: answer!.flags };
}

/** Datagrams of the host to a worker that sleeps. */
async function silence(): Promise<Seen> {
  const { lab } = await connected();
  const receiver = new Receiver(lab);
  const socket = createSocket('udp4');
  await bound(socket, 4000);
  let arrived = 0;
  const started = performance.now();
  for (let i = 0; i < 5; i++) {
    // Longer than it spins.
    await sleep(60);
    socket.send(Buffer.from(`datagram ${i}`), 7, GUEST_IP);
    await until(() => {
      receiver.poll();
      return receiver.frames.splice(0).some(({ frame }) => frame.includes(`datagram ${i}`));
    });
    arrived++;
  }
  const waited = performance.now() - started >= 5 * 60 - 5;
  socket.close();
  return { arrived, waited, pins: await lab.close() };
}

/** Frames of a tap that has no offloads: what the host's stack makes of those it forwards there. */
class Sniffer {
  readonly #link = openTap('tap1');
  readonly #buffer = Buffer.alloc(80_000);

  read(): Buffer | undefined {
    try {
      const length = readSync(this.#link.fd, this.#buffer);
      return Buffer.from(this.#buffer.subarray(12, length));
    } catch {
      return undefined;
    }
  }
}

/** One unsegmented frame, bridged to an interface that takes segments only. */
async function gsoFromGuest(version: 4 | 6): Promise<Seen> {
  const lab = new VifLab({ link: tap0() });
  const sniffer = new Sniffer();
  ip('link', 'add', 'br0', 'type', 'bridge');
  for (const tap of ['tap0', 'tap1']) ip('link', 'set', tap, 'master', 'br0');
  ip('link', 'set', 'br0', 'up');
  await lab.connect();
  const { frame, transport } = ipFrame({ version, payload: 20 * 1400 + 100, blank: true });
  const data = Buffer.alloc(20 * 1400 + 100);
  const lengths: number[] = [];
  let badSums = 0;
  // The host takes a moment to believe in a carrier.
  for (let tries = 0; tries < 30 && lengths.length === 0; tries++) {
    lab.front.send(frame, {
      flags: NetTxFlag.csum_blank | NetTxFlag.data_validated,
      extras: [gsoExtra(1400, version === 4 ? 1 : 2)],
    });
    await sleep(200);
    for (let segment = sniffer.read(); segment !== undefined; segment = sniffer.read()) {
      if (!segment.subarray(0, 12).equals(frame.subarray(0, 12))) continue;
      const tcp = segment.subarray(transport);
      const addresses = version === 4 ? segment.subarray(26, 34) : segment.subarray(22, 54);
      const tail = Buffer.from([0, 6, tcp.length >> 8, tcp.length & 0xff]);
      if (referenceSum(Buffer.concat([addresses, tail, tcp])) !== 0xffff) badSums++;
      tcp.copy(data, tcp.readUInt32BE(4), 20);
      lengths.push(tcp.length - 20);
    }
  }
  // A second try may have come through just behind the first.
  lengths.splice(21);
  const same = data.equals(Buffer.from(frame.subarray(transport + 20)));
  const { txDropLink, txDropHeaders } = lab.backend.stats();
  await lab.close();
  return { lengths, badSums, same, dropped: txDropLink + txDropHeaders };
}

/** A TCP transfer from the host to the least of guests: it says hello and acknowledges. */
async function gsoToGuest(): Promise<Seen> {
  const { lab, hostMac } = await connected();
  const receiver = new Receiver(lab);
  const data = Buffer.alloc(1_000_000, 'segmentation offload ');
  const socket = connect({ host: GUEST_IP, port: 5000 }, () => socket.write(data));
  const got = Buffer.alloc(data.length);
  let received = 0;
  let start = 0;
  let largest = 0;
  let largestGso = 0;
  const sizes = new Set<number>();

  const reply = (ports: Buffer, acknowledge: number, syn: boolean): void => {
    const { frame, transport } = ipFrame({ payload: syn ? 4 : 0, blank: true });
    const view = Buffer.from(frame.buffer);
    view.set(hostMac);
    view.writeUInt16BE(ports.readUInt16BE(2), transport);
    view.writeUInt16BE(ports.readUInt16BE(0), transport + 2);
    view.writeUInt32BE(syn ? 1 : 2, transport + 4);
    view.writeUInt32BE(acknowledge >>> 0, transport + 8);
    view[transport + 12] = syn ? 0x60 : 0x50;
    view[transport + 13] = syn ? 0x12 : 0x10;
    view.writeUInt16BE(65_535, transport + 14);
    // Maximum segment size.
    if (syn) view.set([2, 4, 1400 >> 8, 1400 & 0xff], transport + 20);
    lab.front.send(view, { flags: NetTxFlag.csum_blank | NetTxFlag.data_validated });
  };

  await until(() => {
    receiver.poll();
    for (const { frame, flags, gsoSize } of receiver.frames.splice(0)) {
      if (frame.readUInt16BE(12) !== 0x0800 || frame[23] !== 6) continue;
      const tcp = frame.subarray(34, 14 + frame.readUInt16BE(16));
      const sequence = tcp.readUInt32BE(4);
      if ((tcp[13]! & 2) !== 0) {
        start = sequence + 1;
        reply(tcp, start, true);
        continue;
      }
      const payload = tcp.subarray((tcp[12]! >> 4) * 4);
      if (payload.length === 0) continue;
      const at = (sequence - start) >>> 0;
      payload.copy(got, at);
      received = Math.max(received, at + payload.length);
      largest = Math.max(largest, frame.length);
      if (gsoSize > 0) {
        largestGso = Math.max(largestGso, frame.length);
        sizes.add(gsoSize);
        if ((flags & NetRxFlag.csum_blank) === 0) throw new Error('unsegmented without a blank checksum');
      }
      reply(tcp, start + received, false);
    }
    return received === data.length;
  }, () => `${received} bytes of ${data.length}`);
  socket.destroy();
  const stats = lab.backend.stats();
  await lab.close();
  return { same: got.equals(data), largest, largestGso, gsoSizes: [...sizes], dropped: stats.rxDropUnfit + stats.rxDropGrant };
}

/** Frames for a frontend without offloads come finished. */
async function plainGuest(): Promise<Seen> {
  ip('link', 'set', 'lo', 'up');
  const lab = new VifLab({ link: tap0() });
  ip('addr', 'add', `${HOST_IP}/24`, 'dev', 'tap0');
  ip('neigh', 'add', GUEST_IP, 'lladdr', GUEST_MAC, 'dev', 'tap0');
  await lab.connect({
    keys: { 'feature-no-csum-offload': '1', 'feature-ipv6-csum-offload': '0', 'feature-gso-tcpv4': '0', 'feature-gso-tcpv6': '0' },
  });
  await inOperation('tap0');
  const receiver = new Receiver(lab);
  const socket = createSocket('udp4');
  await bound(socket, 4000);
  socket.send(Buffer.from('all done'), 7, GUEST_IP);
  let answer: Received | undefined;
  await until(() => {
    receiver.poll();
    answer = receiver.frames.find(({ frame }) => frame.includes('all done'));
    return answer !== undefined;
  });
  const { frame } = answer!;
  const udpBytes = frame.subarray(34, 14 + frame.readUInt16BE(16));
  const tail = Buffer.from([0, 17, udpBytes.length >> 8, udpBytes.length & 0xff]);
  const sum = referenceSum(Buffer.concat([frame.subarray(26, 34), tail, udpBytes]));
  socket.close();
  await lab.close();
  return { flags: answer!.flags, sum };
}

/** What becomes of interfaces. */
async function lifetime(): Promise<Seen> {
  const up = (name: string): boolean | undefined => linkState(name)?.flags.includes('UP');
  const carrier = (name: string): boolean | undefined => linkState(name)?.flags.includes('LOWER_UP');
  const seen: Seen = {};
  const made = openTap('made');
  seen['created'] = [made.created, up('made')];
  made.close();
  made.close();
  seen['afterClose'] = linkState('made') === undefined;
  ip('tuntap', 'add', 'kept', 'mode', 'tap');
  ip('tuntap', 'add', 'queues', 'mode', 'tap', 'multi_queue');
  for (const name of ['kept', 'queues']) {
    const adopted = openTap(name);
    seen[name] = [adopted.created, up(name)];
    adopted.close();
    seen[`${name}AfterClose`] = linkState(name) !== undefined;
  }
  const lab = new VifLab({ link: tap0() });
  await lab.backendState(2);
  seen['carrierBefore'] = carrier('tap0');
  await lab.connect();
  seen['carrierConnected'] = carrier('tap0');
  await lab.disconnect();
  seen['carrierAfter'] = carrier('tap0');
  await lab.close();
  // io_uring gives up its registered files in its own time; the last of them takes the interface with it.
  await until(() => linkState('tap0') === undefined);
  seen['gone'] = true;
  return seen;
}

/** The link goes down and comes back under a connected guest, and the interface is taken away at last. */
async function lostLink(): Promise<Seen> {
  const { lab, hostMac } = await connected();
  const { frame } = ipFrame({ protocol: 17, payload: 10, blank: true });
  frame.set(hostMac);
  const answered = (): Promise<void> => until(() => lab.front.tx.responses === lab.front.tx.prod);
  ip('link', 'set', 'tap0', 'down');
  lab.front.send(frame, { flags: NetTxFlag.csum_blank });
  await answered();
  const dropped = lab.backend.stats().txDropLink;
  ip('link', 'set', 'tap0', 'up');
  await inOperation('tap0');
  lab.front.send(frame, { flags: NetTxFlag.csum_blank });
  await answered();
  const sent = lab.backend.stats().txPackets;
  ip('link', 'del', 'tap0');
  lab.front.send(frame, { flags: NetTxFlag.csum_blank });
  await answered();
  const { txDropLink } = lab.backend.stats();
  const pins = await lab.close();
  return { dropped, sent, txDropLink, pins };
}

/** A tap of several queues: the host spreads flows over them, and takes what comes through any. */
async function multiQueue(): Promise<Seen> {
  ip('link', 'set', 'lo', 'up');
  const link = tap0(4);
  const lab = new VifLab({ queues: 4, link });
  ip('addr', 'add', `${HOST_IP}/24`, 'dev', 'tap0');
  ip('neigh', 'add', GUEST_IP, 'lladdr', GUEST_MAC, 'dev', 'tap0');
  const attached = (): number => Number(/numqueues (\d+)/.exec(ip('-d', 'link', 'show', 'tap0'))![1]);
  await lab.connect();
  await inOperation('tap0');
  const hostMac = linkState('tap0')!.address.split(':').map((byte) => Number.parseInt(byte, 16));
  const socket = createSocket('udp4');
  const got: string[] = [];
  socket.on('message', (message) => got.push(message.toString('hex')));
  await bound(socket, 0x5678);
  // One datagram out through each queue.
  for (const queue of lab.front.queues) {
    const { frame } = ipFrame({ protocol: 17, payload: 64, blank: true });
    frame.set(hostMac);
    queue.send(frame, { flags: NetTxFlag.csum_blank | NetTxFlag.data_validated });
  }
  await until(() => got.length === 4);
  // Many flows in: the host's choice.
  for (const queue of lab.front.queues) queue.postRx(64);
  for (let port = 1; port <= 64; port++) socket.send(Buffer.alloc(100), 5000 + port, GUEST_IP);
  const counts = [0, 0, 0, 0];
  await until(() => {
    lab.front.queues.forEach((queue, i) => {
      counts[i]! += queue.rxResponses().filter(({ status }) => status === 142).length;
    });
    return counts.reduce((sum, count) => sum + count) === 64;
  }, () => counts.join());
  const connected = attached();
  await lab.disconnect();
  // io_uring gives up its registered files, queues of the tap among them, in its own time.
  await until(() => attached() === 1, () => `${attached()} queues are attached`);
  const disconnected = attached();
  socket.close();
  const pins = await lab.close();
  return { maxQueues: link.maxQueues, used: counts.filter((count) => count > 0).length, connected, disconnected, pins };
}

/** Whether an interface of the operator's takes several queues is the operator's choice. */
function adoptedQueues(): Promise<Seen> {
  ip('tuntap', 'add', 'single', 'mode', 'tap');
  ip('tuntap', 'add', 'several', 'mode', 'tap', 'multi_queue');
  const max = (name: string, queues: number): number => {
    const link = openTap(name, queues);
    const count = link.queues!(link.maxQueues!).length;
    link.setMtu!(9000);
    link.close();
    return count;
  };
  const queues = [max('single', 4), max('several', 4), max('several', 1), max('fresh', 2)];
  return Promise.resolve({ queues, mtu: linkState('several')!.mtu });
}

/** The operator's mistakes, by code. */
function mistakes(): Promise<Seen> {
  const code = (name: string): string => {
    try {
      openTap(name).close();
      return 'opened';
    } catch (error) {
      return error instanceof OperatorError && error.remedy !== '' ? error.code : String(error);
    }
  };
  const busy = openTap('busy');
  ip('link', 'add', 'dummy0', 'type', 'bridge');
  const seen: Seen = {
    names: ['', 'sixteen-is-long.', 'a/b', 'a b', 'tap%d', '.', '..', 'a:b', 'tab\u00e9'].map(code),
    fifteen: code('fifteen-is-fine'),
    busy: code('busy'),
    loopback: code('lo'),
    bridge: code('dummy0'),
  };
  busy.close();
  process.setuid!(65_534);
  seen['unprivileged'] = code('forbidden');
  return Promise.resolve(seen);
}

const scenarios: Record<string, () => Promise<Seen>> = {
  udp, gsoToGuest,
  gsoFromGuest4: () => gsoFromGuest(4),
  gsoFromGuest6: () => gsoFromGuest(6),
  silence, multiQueue, adoptedQueues, plainGuest, lifetime, lostLink, mistakes,
};
console.log(JSON.stringify(await scenarios[process.argv[2]!]!()));
