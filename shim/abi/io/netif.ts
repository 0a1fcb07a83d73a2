/** Network rings (public/io/netif.h): layouts of slots and the values their fields take. Both ABIs are the same. */
import { constants } from '../constants.js';
import { bytes, s16, struct, u16, u32, u8 } from '../struct.js';

const header = 'io/netif.h';

/** 12 bytes; also the stride of the transmit ring. */
export const NetifTxRequest = struct(
  { c: 'struct netif_tx_request', header, abi: 'any', size: 12 },
  { gref: u32(0), offset: u16(4), flags: u16(6), id: u16(8), size: u16(10) },
);

export const NetifTxResponse = struct(
  { c: 'struct netif_tx_response', header, abi: 'any', size: 4 },
  { id: u16(0), status: s16(2) },
);

/** 8 bytes; also the stride of the receive ring. */
export const NetifRxRequest = struct(
  { c: 'struct netif_rx_request', header, abi: 'any', size: 8 },
  { id: u16(0), pad: u16(2), gref: u32(4) },
);

export const NetifRxResponse = struct(
  { c: 'struct netif_rx_response', header, abi: 'any', size: 8 },
  { id: u16(0), offset: u16(2), flags: u16(4), status: s16(6) },
);

/** Overlays a slot of either ring. */
export const NetifExtraInfo = struct(
  {
    c: 'struct netif_extra_info',
    header,
    abi: 'any',
    size: 8,
    members: {
      gsoSize: 'u.gso.size',
      gsoType: 'u.gso.type',
      gsoPad: 'u.gso.pad',
      gsoFeatures: 'u.gso.features',
      mcastAddr: 'u.mcast.addr',
      hashType: 'u.hash.type',
      hashAlgorithm: 'u.hash.algorithm',
      hashValue: 'u.hash.value',
    },
  },
  {
    type: u8(0),
    flags: u8(1),
    gsoSize: u16(2),
    gsoType: u8(4),
    gsoPad: u8(5),
    gsoFeatures: u16(6),
    mcastAddr: bytes(2, 6),
    hashType: u8(2),
    hashAlgorithm: u8(3),
    hashValue: bytes(4, 4),
  },
);

export const NetifCtrlRequest = struct(
  { c: 'struct xen_netif_ctrl_request', header, abi: 'any', size: 16 },
  { id: u16(0), type: u16(2), data: bytes(4, 12) },
);

export const NetifCtrlResponse = struct(
  { c: 'struct xen_netif_ctrl_response', header, abi: 'any', size: 12 },
  { id: u16(0), type: u16(2), status: u32(4), data: u32(8) },
);

/** Slots of a one-page transmit or receive ring. */
export const NETIF_RING_SIZE = 256;

/** Flags of a transmit slot. */
export const NetTxFlag = constants(
  header,
  { csum_blank: 1, data_validated: 2, more_data: 4, extra_info: 8 },
  'NETTXF_',
);

/** Flags of a receive slot. The lowest two bits are the other way round than on transmit. */
export const NetRxFlag = constants(
  header,
  { data_validated: 1, csum_blank: 2, more_data: 4, extra_info: 8, gso_prefix: 16 },
  'NETRXF_',
);

/** Types of an extra slot. */
export const NetifExtraType = Object.freeze({
  ...constants(header, { NONE: 0, GSO: 1, MCAST_ADD: 2, MCAST_DEL: 3, HASH: 4 }, 'XEN_NETIF_EXTRA_TYPE_'),
  // Newer than many copies of the header, which end at HASH.
  XDP: 5,
  MAX: 6,
});

/** Says that another extra slot follows. */
export const NETIF_EXTRA_FLAG_MORE = constants(header, { MORE: 1 }, 'XEN_NETIF_EXTRA_FLAG_').MORE;

export const NetifGsoType = constants(header, { NONE: 0, TCPV4: 1, TCPV6: 2 }, 'XEN_NETIF_GSO_TYPE_');

/** Status of a response. */
export const NetifRsp = constants(header, { DROPPED: -2, ERROR: -1, OKAY: 0, NULL: 1 }, 'NETIF_RSP_');

/** Slots of a one-page control ring. */
export const NETIF_CTRL_RING_SIZE = 128;

/** Types of a control request. */
export const NetifCtrlType = constants(
  header,
  {
    INVALID: 0,
    GET_HASH_FLAGS: 1,
    SET_HASH_FLAGS: 2,
    SET_HASH_KEY: 3,
    GET_HASH_MAPPING_SIZE: 4,
    SET_HASH_MAPPING_SIZE: 5,
    SET_HASH_MAPPING: 6,
    SET_HASH_ALGORITHM: 7,
    GET_GREF_MAPPING_SIZE: 8,
    ADD_GREF_MAPPING: 9,
    DEL_GREF_MAPPING: 10,
  },
  'XEN_NETIF_CTRL_TYPE_',
);

export const NetifCtrlStatus = constants(
  header,
  { SUCCESS: 0, NOT_SUPPORTED: 1, INVALID_PARAMETER: 2, BUFFER_OVERFLOW: 3 },
  'XEN_NETIF_CTRL_STATUS_',
);

export const NetifHashAlgorithm = constants(header, { NONE: 0, TOEPLITZ: 1 }, 'XEN_NETIF_CTRL_HASH_ALGORITHM_');

/** What a hash covers, as bits of the flags. */
export const NetifHashType = constants(
  header,
  { IPV4: 1, IPV4_TCP: 2, IPV6: 4, IPV6_TCP: 8 },
  'XEN_NETIF_CTRL_HASH_TYPE_',
);

/** The same as numbers of a bit, as an extra slot names them. */
export const NetifHashTypeBit = constants(
  header,
  { IPV4: 0, IPV4_TCP: 1, IPV6: 2, IPV6_TCP: 3 },
  '_XEN_NETIF_CTRL_HASH_TYPE_',
);
