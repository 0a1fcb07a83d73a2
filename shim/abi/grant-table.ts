/** public/grant_table.h: entries of both versions, and the structures of the GNTTABOP_* an HVM guest may issue. */
import { constants } from './constants.js';
import { s16, struct, u16, u32, u64, bytes } from './struct.js';

const header = 'grant_table.h';

/** Flags of a grant entry. */
export const Gtf = constants(
  header,
  {
    invalid: 0,
    permit_access: 1,
    accept_transfer: 2,
    transitive: 3,
    type_mask: 3,
    readonly: 4,
    reading: 8,
    writing: 16,
    sub_page: 256,
  },
  'GTF_',
);

export const Gntmap = constants(
  header,
  { device_map: 1, host_map: 2, readonly: 4, application_map: 8, contains_pte: 16 },
  'GNTMAP_',
);

export const Gntcopy = constants(header, { source_gref: 1, dest_gref: 2 }, 'GNTCOPY_');

export const Gnttabop = constants(
  header,
  {
    map_grant_ref: 0,
    unmap_grant_ref: 1,
    setup_table: 2,
    dump_table: 3,
    transfer: 4,
    copy: 5,
    query_size: 6,
    unmap_and_replace: 7,
    set_version: 8,
    get_status_frames: 9,
    get_version: 10,
    swap_grant_ref: 11,
    cache_flush: 12,
  },
  'GNTTABOP_',
);

/** enum grant_status: what an operation's `status` says. */
export const Gntst = constants(
  header,
  {
    okay: 0,
    general_error: -1,
    bad_domain: -2,
    bad_gntref: -3,
    bad_handle: -4,
    bad_virt_addr: -5,
    bad_dev_addr: -6,
    no_device_space: -7,
    permission_denied: -8,
    bad_page: -9,
    bad_copy_arg: -10,
    address_too_big: -11,
    eagain: -12,
    no_space: -13,
  },
  'GNTST_',
);

/** Reserved entries of every table. */
export const GnttabReserved = constants(
  header,
  { CONSOLE: 0, XENSTORE: 1 },
  'GNTTAB_RESERVED_',
);

/** Entries 0..7 belong to the toolstack (GNTTAB_NR_RESERVED_ENTRIES). */
export const GNTTAB_NR_RESERVED_ENTRIES = constants(header, { ENTRIES: 8 }, 'GNTTAB_NR_RESERVED_').ENTRIES;

/** Text per status, index = -status (GNTTABOP_error_msgs; spec A0.9). */
export const grantStatusText: readonly string[] = Object.freeze([
  'okay',
  'undefined error',
  'unrecognised domain id',
  'invalid grant reference',
  'invalid mapping handle',
  'invalid virtual address',
  'invalid device address',
  'no spare translation slot in the I/O MMU',
  'permission denied',
  'bad page',
  'copy arguments cross page boundary',
  'page address size too large',
  'operation not done; try again',
  'out of space',
]);

export const GrantEntryV1 = struct(
  { c: 'struct grant_entry_v1', header, abi: 'any', size: 8 },
  { flags: u16(0), domid: u16(2), frame: u32(4) },
);

export const GrantEntryV2 = struct(
  {
    c: 'union grant_entry_v2',
    header,
    abi: 'any',
    size: 16,
    members: {
      flags: 'hdr.flags',
      domid: 'hdr.domid',
      frame: 'full_page.frame',
      page_off: 'sub_page.page_off',
      length: 'sub_page.length',
      sub_frame: 'sub_page.frame',
      trans_domid: 'transitive.trans_domid',
      gref: 'transitive.gref',
    },
  },
  {
    flags: u16(0),
    domid: u16(2),
    frame: u64(8),
    page_off: u16(4),
    length: u16(6),
    sub_frame: u64(8),
    trans_domid: u16(4),
    gref: u32(8),
  },
);

export const GnttabMapGrantRef = struct(
  { c: 'struct gnttab_map_grant_ref', header, abi: 'any', size: 32 },
  {
    host_addr: u64(0),
    flags: u32(8),
    ref: u32(12),
    dom: u16(16),
    status: s16(18),
    handle: u32(20),
    dev_bus_addr: u64(24),
  },
);

export const GnttabUnmapGrantRef = struct(
  { c: 'struct gnttab_unmap_grant_ref', header, abi: 'any', size: 24 },
  { host_addr: u64(0), dev_bus_addr: u64(8), handle: u32(16), status: s16(20) },
);

export const GnttabSetupTable64 = struct(
  { c: 'struct gnttab_setup_table', header, abi: 'x86_64', size: 24 },
  { dom: u16(0), nr_frames: u32(4), status: s16(8), frame_list: u64(16) },
);
export const GnttabSetupTable32 = struct(
  { c: 'struct gnttab_setup_table', header, abi: 'x86_32', size: 16 },
  { dom: u16(0), nr_frames: u32(4), status: s16(8), frame_list: u32(12) },
);

export const GnttabCopy64 = struct(
  {
    c: 'struct gnttab_copy',
    header,
    abi: 'x86_64',
    size: 40,
    members: {
      source_ref: 'source.u.ref',
      source_gmfn: 'source.u.gmfn',
      source_domid: 'source.domid',
      source_offset: 'source.offset',
      dest_ref: 'dest.u.ref',
      dest_gmfn: 'dest.u.gmfn',
      dest_domid: 'dest.domid',
      dest_offset: 'dest.offset',
    },
  },
  {
    source: bytes(0, 16),
    source_ref: u32(0),
    source_gmfn: u64(0),
    source_domid: u16(8),
    source_offset: u16(10),
    dest: bytes(16, 16),
    dest_ref: u32(16),
    dest_gmfn: u64(16),
    dest_domid: u16(24),
    dest_offset: u16(26),
    len: u16(32),
    flags: u16(34),
    status: s16(36),
  },
);
export const GnttabCopy32 = struct(
  {
    c: 'struct gnttab_copy',
    header,
    abi: 'x86_32',
    size: 24,
    members: {
      source_ref: 'source.u.ref',
      source_gmfn: 'source.u.gmfn',
      source_domid: 'source.domid',
      source_offset: 'source.offset',
      dest_ref: 'dest.u.ref',
      dest_gmfn: 'dest.u.gmfn',
      dest_domid: 'dest.domid',
      dest_offset: 'dest.offset',
    },
  },
  {
    source: bytes(0, 8),
    source_ref: u32(0),
    source_gmfn: u32(0),
    source_domid: u16(4),
    source_offset: u16(6),
    dest: bytes(8, 8),
    dest_ref: u32(8),
    dest_gmfn: u32(8),
    dest_domid: u16(12),
    dest_offset: u16(14),
    len: u16(16),
    flags: u16(18),
    status: s16(20),
  },
);

export const GnttabQuerySize = struct(
  { c: 'struct gnttab_query_size', header, abi: 'any', size: 16 },
  { dom: u16(0), nr_frames: u32(4), max_nr_frames: u32(8), status: s16(12) },
);

export const GnttabSetVersion = struct(
  { c: 'struct gnttab_set_version', header, abi: 'any', size: 4 },
  { version: u32(0) },
);

export const GnttabGetVersion = struct(
  { c: 'struct gnttab_get_version', header, abi: 'any', size: 8 },
  { dom: u16(0), pad: u16(2), version: u32(4) },
);

export const GnttabSwapGrantRef = struct(
  { c: 'struct gnttab_swap_grant_ref', header, abi: 'any', size: 12 },
  { ref_a: u32(0), ref_b: u32(4), status: s16(8) },
);
