/** The xenstore wire protocol and its shared ring page (public/io/xs_wire.h). */
import { bytes, struct, u32 } from '../struct.js';

/** Header of every message; `len` bytes of payload follow. */
export const SockMsg = struct(
  { c: 'struct xsd_sockmsg', header: 'io/xs_wire.h', abi: 'any', size: 16 },
  { type: u32(0), req_id: u32(4), tx_id: u32(8), len: u32(12) },
);

/**
 * The page a guest shares with the store. The newest headers have one more word, evtchn_port at 2076, for domains built
 * without a toolstack; nothing here uses it.
 */
export const XenstoreInterface = struct(
  { c: 'struct xenstore_domain_interface', header: 'io/xs_wire.h', abi: 'any', size: 2076 },
  {
    req: bytes(0, 1024),
    rsp: bytes(1024, 1024),
    req_cons: u32(2048),
    req_prod: u32(2052),
    rsp_cons: u32(2056),
    rsp_prod: u32(2060),
    server_features: u32(2064),
    connection: u32(2068),
    error: u32(2072),
  },
);

export const XENSTORE_RING_SIZE = 1024;
export const XENSTORE_PAYLOAD_MAX = 4096;
export const XENSTORE_ABS_PATH_MAX = 3072;
export const XENSTORE_REL_PATH_MAX = 2048;

/** enum xsd_sockmsg_type; 20 was removed, 23 to 26 are not in older headers. */
export const XsType = Object.freeze({
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
  GET_FEATURE: 23,
  SET_FEATURE: 24,
  GET_QUOTA: 25,
  SET_QUOTA: 26,
} as const);

/** Bits of `server_features`. */
export const ServerFeature = Object.freeze({ RECONNECTION: 1, ERROR: 2, WATCH_DEPTH: 4 } as const);

/** Values of `connection`. */
export const ConnectionState = Object.freeze({ CONNECTED: 0, RECONNECT: 1 } as const);

/** Values of `error`. */
export const RingError = Object.freeze({ NONE: 0, COMM: 1, RINGIDX: 2, PROTO: 3 } as const);

/** The error names the protocol knows (xsd_errors); anything else cannot be said on the wire. */
export type WireError =
  | 'EINVAL'
  | 'EACCES'
  | 'EEXIST'
  | 'EISDIR'
  | 'ENOENT'
  | 'ENOMEM'
  | 'ENOSPC'
  | 'EIO'
  | 'ENOTEMPTY'
  | 'ENOSYS'
  | 'EROFS'
  | 'EBUSY'
  | 'EAGAIN'
  | 'EISCONN'
  | 'E2BIG'
  | 'EPERM';
