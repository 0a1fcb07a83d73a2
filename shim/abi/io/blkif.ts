/** The block protocol (public/io/blkif.h). Sector numbers and counts are in units of 512 bytes, always. */
import { constants } from '../constants.js';
import { bytes, s16, struct, u16, u32, u64, u8 } from '../struct.js';

const header = 'io/blkif.h';

export const BlkifOp = constants(
  header,
  { READ: 0, WRITE: 1, WRITE_BARRIER: 2, FLUSH_DISKCACHE: 3, RESERVED_1: 4, DISCARD: 5, INDIRECT: 6 },
  'BLKIF_OP_',
);

export const BlkifStatus = constants(header, { OKAY: 0, ERROR: -1, EOPNOTSUPP: -2 }, 'BLKIF_RSP_');

/** Bits of the `info` node. */
export const VdiskInfo = constants(header, { CDROM: 1, REMOVABLE: 2, READONLY: 4 }, 'VDISK_');

/** BLKIF_DISCARD_SECURE, a bit of a discard's `flag`. */
export const DISCARD_SECURE = 1;

/** BLKIF_MAX_SEGMENTS_PER_REQUEST. */
export const MAX_SEGMENTS = 11;
/** BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST. */
export const MAX_INDIRECT_PAGES = 8;
/** `struct blkif_request_segment` in a page. */
export const SEGMENTS_PER_INDIRECT_PAGE = 512;
export const SECTOR_SHIFT = 9;
export const SECTOR_SIZE = 512;
/** Sectors in a page: `last_sect` is below it. */
export const SECTORS_PER_PAGE = 8;

const x64 = { header, abi: 'x86_64' } as const;
const x32 = { header, abi: 'x86_32' } as const;

export const BlkifSegment = struct(
  { c: 'struct blkif_request_segment', header, abi: 'any', size: 8 },
  { gref: u32(0), first_sect: u8(4), last_sect: u8(5) },
);

export const BlkifRequest64 = struct(
  { c: 'struct blkif_request', ...x64, size: 112 },
  { operation: u8(0), nr_segments: u8(1), handle: u16(2), id: u64(8), sector_number: u64(16), seg: bytes(24, 88) },
);

export const BlkifRequest32 = struct(
  { c: 'struct blkif_request', ...x32, size: 108 },
  { operation: u8(0), nr_segments: u8(1), handle: u16(2), id: u64(4), sector_number: u64(12), seg: bytes(20, 88) },
);

export const BlkifIndirect64 = struct(
  { c: 'struct blkif_request_indirect', ...x64, size: 64 },
  {
    operation: u8(0),
    indirect_op: u8(1),
    nr_segments: u16(2),
    id: u64(8),
    sector_number: u64(16),
    handle: u16(24),
    indirect_grefs: bytes(28, 32),
  },
);

export const BlkifIndirect32 = struct(
  { c: 'struct blkif_request_indirect', ...x32, size: 64 },
  {
    operation: u8(0),
    indirect_op: u8(1),
    nr_segments: u16(2),
    id: u64(4),
    sector_number: u64(12),
    handle: u16(20),
    indirect_grefs: bytes(24, 32),
  },
);

export const BlkifDiscard64 = struct(
  { c: 'struct blkif_request_discard', ...x64, size: 32 },
  { operation: u8(0), flag: u8(1), handle: u16(2), id: u64(8), sector_number: u64(16), nr_sectors: u64(24) },
);

export const BlkifDiscard32 = struct(
  { c: 'struct blkif_request_discard', ...x32, size: 28 },
  { operation: u8(0), flag: u8(1), handle: u16(2), id: u64(4), sector_number: u64(12), nr_sectors: u64(20) },
);

export const BlkifResponse64 = struct(
  { c: 'struct blkif_response', ...x64, size: 16 },
  { id: u64(0), operation: u8(8), status: s16(10) },
);

export const BlkifResponse32 = struct(
  { c: 'struct blkif_response', ...x32, size: 12 },
  { id: u64(0), operation: u8(8), status: s16(10) },
);

/** What differs between the two layouts, in 32-bit words: the whole body moves by one word with the padding before id. */
export interface BlkifAbi {
  /** Value of the `protocol` node. */
  readonly name: 'x86_64-abi' | 'x86_32-abi';
  /** Bytes of a slot: the larger of request and response. */
  readonly slotBytes: number;
  readonly responseBytes: number;
  /** Word of `id`; sector_number is 2 further, segments, nr_sectors and the indirect handle 4, indirect grefs 5. */
  readonly idWord: number;
}

export const BLKIF_X86_64: BlkifAbi = Object.freeze({
  name: 'x86_64-abi',
  slotBytes: BlkifRequest64.SIZE,
  responseBytes: BlkifResponse64.SIZE,
  idWord: BlkifRequest64.id / 4,
});

export const BLKIF_X86_32: BlkifAbi = Object.freeze({
  name: 'x86_32-abi',
  slotBytes: BlkifRequest32.SIZE,
  responseBytes: BlkifResponse32.SIZE,
  idWord: BlkifRequest32.id / 4,
});
