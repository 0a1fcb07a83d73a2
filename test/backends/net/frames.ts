/** Frames to send, and the arithmetic to check them with, written without the code under test. */

export function plainFrame(length: number, fill = 0x5a): Uint8Array {
  const frame = new Uint8Array(length).fill(fill);
  frame.set([2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 0x11, 0x88, 0xb5].slice(0, Math.min(14, length)));
  for (let i = 14; i < length; i++) frame[i] = (fill + i * 7) & 0xff;
  return frame;
}

/** One's complement sum of 16-bit words with BigInt: slow and obvious. */
export function referenceSum(bytes: Uint8Array): number {
  let sum = 0n;
  for (let i = 0; i < bytes.length; i += 2) sum += BigInt((bytes[i]! << 8) | (bytes[i + 1] ?? 0));
  while (sum > 0xffffn) sum = (sum & 0xffffn) + (sum >> 16n);
  return Number(sum);
}

export interface IpFrame {
  readonly frame: Uint8Array;
  /** Offset of the transport header. */
  readonly transport: number;
  /** Sum over the pseudo-header. */
  readonly pseudo: number;
}

export interface IpFrameOptions {
  readonly version?: 4 | 6;
  readonly protocol?: 6 | 17;
  readonly payload?: number;
  /** Leaves the pseudo-header's sum in the checksum field, as an offloading stack does; else the whole checksum. */
  readonly blank?: boolean;
  /** IPv6 extension headers in front of the transport header: [type, bytes] each. */
  readonly extensions?: readonly (readonly [number, number])[];
  readonly vlan?: boolean;
}

export function ipFrame(options: IpFrameOptions = {}): IpFrame {
  const { version = 4, protocol = 6, payload = 100, blank = false, extensions = [], vlan = false } = options;
  const headerLength = protocol === 6 ? 20 : 8;
  const network = vlan ? 18 : 14;
  const extensionBytes = extensions.reduce((sum, [, bytes]) => sum + bytes, 0);
  const transport = network + (version === 4 ? 20 : 40) + extensionBytes;
  const frame = new Uint8Array(transport + headerLength + payload);
  frame.set([2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 0x11]);
  if (vlan) frame.set([0x81, 0, 0, 5], 12);
  frame.set(version === 4 ? [8, 0] : [0x86, 0xdd], network - 2);
  const upper = headerLength + payload;
  const addresses = version === 4 ? 8 : 32;
  const addressesAt = network + (version === 4 ? 12 : 8);
  if (version === 4) {
    const total = 20 + upper;
    frame.set([0x45, 0, total >> 8, total & 0xff, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], network);
    const sum = ~referenceSum(frame.subarray(network, network + 20)) & 0xffff;
    frame.set([sum >> 8, sum & 0xff], network + 10);
  } else {
    const total = extensionBytes + upper;
    frame.set([0x60, 0, 0, 0, total >> 8, total & 0xff, extensions[0]?.[0] ?? protocol, 64], network);
    for (let i = 0; i < 32; i++) frame[addressesAt + i] = i * 3 + 1;
    let at = network + 40;
    extensions.forEach(([type, bytes], i) => {
      frame[at] = extensions[i + 1]?.[0] ?? protocol;
      frame[at + 1] = type === 51 ? bytes / 4 - 2 : bytes / 8 - 1;
      at += bytes;
    });
  }
  frame.set([0x12, 0x34, 0x56, 0x78], transport);
  if (protocol === 6) frame[transport + 12] = 0x50;
  else frame.set([upper >> 8, upper & 0xff], transport + 4);
  for (let i = 0; i < payload; i++) frame[transport + headerLength + i] = (i * 13 + 7) & 0xff;
  const tail = Uint8Array.of(0, protocol, upper >> 8, upper & 0xff);
  const pseudo = referenceSum(Uint8Array.from([...frame.subarray(addressesAt, addressesAt + addresses), ...tail]));
  const field = transport + (protocol === 6 ? 16 : 6);
  frame.set([pseudo >> 8, pseudo & 0xff], field);
  if (!blank) {
    const sum = ~referenceSum(frame.subarray(transport)) & 0xffff;
    frame.set([sum >> 8, sum & 0xff], field);
  }
  return { frame, transport, pseudo };
}
