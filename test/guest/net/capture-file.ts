/** The frames of a pcapng file as `pcap=` writes it: one interface, flags on each packet, drops at the end. */
import { readFileSync } from 'node:fs';
import { seenFrame, type SeenFrame } from './tap-reader.js';

const STATISTICS = 5;
const ENHANCED_PACKET = 6;
/** Of a packet block: captured length, data. */
const CAPTURED = 20;
const DATA = 28;
/** epb_flags, whose two low bits say 1 for inbound and 2 for outbound; isb_ifdrop. */
const EPB_FLAGS = 2;
const ISB_IFDROP = 5;

export interface CaptureFile {
  readonly frames: readonly SeenFrame[];
  readonly dropped: number;
}

/** @throws Error when the file does not end as it should */
export function readCapture(file: string): CaptureFile {
  const bytes = readFileSync(file);
  const frames: SeenFrame[] = [];
  let dropped: number | undefined;
  for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at + 4)) {
    const type = bytes.readUInt32LE(at);
    const block = bytes.subarray(at, at + bytes.readUInt32LE(at + 4));
    if (type === ENHANCED_PACKET) {
      const length = block.readUInt32LE(CAPTURED);
      const flags = option(block, DATA + ((length + 3) & ~3), EPB_FLAGS).readUInt32LE();
      frames.push(seenFrame((flags & 3) === 2, block.subarray(DATA, DATA + length)));
    } else if (type === STATISTICS) {
      dropped = Number(option(block, 20, ISB_IFDROP).readBigUInt64LE());
    }
  }
  if (dropped === undefined) throw new Error(`${file} has no end: its statistics are missing`);
  return { frames, dropped };
}

/** The value of an option in the list that begins at byte `at` of a block. */
function option(block: Buffer, at: number, code: number): Buffer {
  for (let next = at; ; next += 4 + ((block.readUInt16LE(next + 2) + 3) & ~3)) {
    const length = block.readUInt16LE(next + 2);
    if (block.readUInt16LE(next) === code) return block.subarray(next + 4, next + 4 + length);
  }
}
