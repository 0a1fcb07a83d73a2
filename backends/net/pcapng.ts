/** Blocks of a pcapng file (draft-ietf-opsawg-pcapng), little-endian, one interface, times in nanoseconds. */
import type { CapturedFrame } from './capture-ring.js';

const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const STATISTICS = 5;
const ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const LINKTYPE_ETHERNET = 1;

const Option = Object.freeze({ END: 0, IF_NAME: 2, IF_TSRESOL: 9, EPB_FLAGS: 2, ISB_IFDROP: 5, SHB_USERAPPL: 4 });

function option(code: number, value: Uint8Array): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(code, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, value, Buffer.alloc(-value.length & 3)]);
}

const END = option(Option.END, new Uint8Array(0));

function u32(...values: number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => buffer.writeUInt32LE(value >>> 0, i * 4));
  return buffer;
}

function block(type: number, ...body: Uint8Array[]): Buffer {
  const length = 12 + body.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([u32(type, length), ...body, u32(length)]);
}

/** 64-bit nanoseconds since 1970 as the format's two words, high first. */
function timestamp(seconds: number, nanoseconds: number): Buffer {
  // Exact: 30 bits of nanoseconds under a product that is split before it leaves 53 bits.
  const low = (seconds % 2 ** 16) * 1e9 + nanoseconds;
  const high = Math.floor(seconds / 2 ** 16) * 1e9;
  const total = BigInt(high) * 65536n + BigInt(low);
  return u32(Number(total >> 32n), Number(total & 0xffffffffn));
}

/** What a file begins with. */
export function fileHead(interfaceName: string, snapLength: number): Buffer {
  const section = Buffer.alloc(16);
  section.writeUInt32LE(BYTE_ORDER, 0);
  section.writeUInt16LE(1, 4);
  section.fill(0xff, 8);
  const linkType = Buffer.alloc(4);
  linkType.writeUInt16LE(LINKTYPE_ETHERNET, 0);
  return Buffer.concat([
    block(SECTION, section, option(Option.SHB_USERAPPL, Buffer.from('xenshim')), END),
    block(
      INTERFACE, linkType, u32(snapLength), option(Option.IF_NAME, Buffer.from(interfaceName)),
      option(Option.IF_TSRESOL, Uint8Array.of(9)), END,
    ),
  ]);
}

export function packet({ data, length, direction, seconds, nanoseconds }: CapturedFrame): Buffer {
  return block(
    ENHANCED_PACKET, u32(0), timestamp(seconds, nanoseconds), u32(data.length, length), data,
    Buffer.alloc(-data.length & 3), option(Option.EPB_FLAGS, u32(direction)), END,
  );
}

/** What a file ends with. @param dropped frames that are not in it */
export function fileTail(dropped: number, milliseconds: number): Buffer {
  const count = Buffer.alloc(8);
  count.writeBigUInt64LE(BigInt(dropped));
  const seconds = Math.floor(milliseconds / 1000);
  const time = timestamp(seconds, Math.floor((milliseconds - seconds * 1000) * 1e6));
  return block(STATISTICS, u32(0), time, option(Option.ISB_IFDROP, count), END);
}
