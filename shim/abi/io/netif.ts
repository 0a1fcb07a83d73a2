/** Network rings (public/io/netif.h): layouts of slots and the values their fields take. Both ABIs are the same. */
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

/** NETTXF_*: flags of a transmit slot. */
export const NetTxFlag = Object.freeze({ csum_blank: 1, data_validated: 2, more_data: 4, extra_info: 8 });

/** NETRXF_*: flags of a receive slot. The lowest two bits are the other way round than on transmit. */
export const NetRxFlag = Object.freeze({
  data_validated: 1,
  csum_blank: 2,
  more_data: 4,
  extra_info: 8,
  gso_prefix: 16,
});

/** XEN_NETIF_EXTRA_TYPE_*; XDP is newer than many copies of the header. */
export const NetifExtraType = Object.freeze({ NONE: 0, GSO: 1, MCAST_ADD: 2, MCAST_DEL: 3, HASH: 4, XDP: 5, MAX: 6 });

/** XEN_NETIF_EXTRA_FLAG_MORE. */
export const NETIF_EXTRA_FLAG_MORE = 1;

/** XEN_NETIF_GSO_TYPE_*. */
export const NetifGsoType = Object.freeze({ NONE: 0, TCPV4: 1, TCPV6: 2 });

/** NETIF_RSP_*. */
export const NetifRsp = Object.freeze({ DROPPED: -2, ERROR: -1, OKAY: 0, NULL: 1 });
