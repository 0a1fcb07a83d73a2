/**
 * Every frame of an interface as a packet socket sees it: `tap-reader.js INTERFACE`. Says `listening`, and once it has got
 * a line, what it saw and how much it missed. Numbers are those of linux/if_packet.h and asm-generic/socket.h.
 */
import type * as Ffi from 'ffi-napi';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

/** Directions are the guest's. */
export interface SeenFrame {
  readonly outbound: boolean;
  readonly length: number;
  readonly etherType: number;
  /** Of an IPv4 frame. */
  readonly source: string;
  readonly destination: string;
  readonly hash: string;
}

export type ReaderMessage =
  | { readonly kind: 'listening' }
  | { readonly kind: 'frames'; readonly frames: readonly SeenFrame[]; readonly missed: number };

const address = (frame: Uint8Array, at: number): string => [...frame.subarray(at, at + 4)].join('.');

export function seenFrame(outbound: boolean, frame: Uint8Array): SeenFrame {
  return {
    outbound,
    length: frame.length,
    etherType: (frame[12]! << 8) | frame[13]!,
    source: address(frame, 26),
    destination: address(frame, 30),
    hash: createHash('sha1').update(frame).digest('hex'),
  };
}

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_ALL = 3;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_STATISTICS = 6;
const MSG_DONTWAIT = 0x40;
const PACKET_OUTGOING = 4;
/** struct sockaddr_ll and its sll_protocol, sll_ifindex, sll_pkttype. */
const SOCKADDR = 20;
const LL = { protocol: 2, ifindex: 4, pkttype: 10 } as const;
const LONGEST = 128 * 1024;

class PacketSocket {
  readonly #libc;
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(LONGEST);
  readonly #from = Buffer.alloc(SOCKADDR);
  readonly #fromLength = Buffer.alloc(4);

  constructor(index: number) {
    const ffi = createRequire(import.meta.url)('ffi-napi') as typeof Ffi;
    this.#libc = ffi.Library(null, {
      socket: ['int', ['int', 'int', 'int']],
      bind: ['int', ['int', 'pointer', 'int']],
      setsockopt: ['int', ['int', 'int', 'int', 'pointer', 'int']],
      getsockopt: ['int', ['int', 'int', 'int', 'pointer', 'pointer']],
      recvfrom: ['long', ['int', 'pointer', 'long', 'int', 'pointer', 'pointer']],
    });
    // Without a protocol it gets nothing until it is bound to the one interface.
    this.#fd = this.#libc.socket(AF_PACKET, SOCK_RAW, 0);
    const room = Buffer.alloc(4);
    room.writeInt32LE(64 * 2 ** 20);
    this.#libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, room, 4);
    const to = Buffer.alloc(SOCKADDR);
    to.writeUInt16LE(AF_PACKET, 0);
    to.writeUInt16BE(ETH_P_ALL, LL.protocol);
    to.writeInt32LE(index, LL.ifindex);
    if (this.#libc.bind(this.#fd, to, SOCKADDR) !== 0) throw new Error(`no packet socket on interface ${index}`);
  }

  /** The next frame, if there is one now. */
  read(): SeenFrame | undefined {
    this.#fromLength.writeInt32LE(SOCKADDR);
    const length = Number(this.#libc.recvfrom(this.#fd, this.#buffer, LONGEST, MSG_DONTWAIT, this.#from, this.#fromLength));
    if (length < 0) return undefined;
    return seenFrame(this.#from[LL.pkttype] !== PACKET_OUTGOING, this.#buffer.subarray(0, length));
  }

  /** Frames there was no room for. */
  missed(): number {
    const statistics = Buffer.alloc(8);
    const length = Buffer.alloc(4);
    length.writeInt32LE(8);
    this.#libc.getsockopt(this.#fd, SOL_PACKET, PACKET_STATISTICS, statistics, length);
    return statistics.readUInt32LE(4);
  }
}

async function main(name: string): Promise<void> {
  const say = (message: ReaderMessage): boolean => process.stdout.write(`${JSON.stringify(message)}\n`);
  // sysfs shows the interfaces of the namespace it was mounted in, which `ip netns exec` sees to.
  const socket = new PacketSocket(Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8')));
  let asked = false;
  process.stdin.once('data', () => (asked = true));
  say({ kind: 'listening' });
  const frames: SeenFrame[] = [];
  for (;;) {
    const last = asked;
    for (let frame = socket.read(); frame !== undefined; frame = socket.read()) frames.push(frame);
    if (last) break;
    await sleep(20);
  }
  say({ kind: 'frames', frames, missed: socket.missed() });
  process.stdin.destroy();
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main(process.argv[2]!);
