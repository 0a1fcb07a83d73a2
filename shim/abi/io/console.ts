/** The console page (public/io/console.h): two byte rings with free-running indices. Both ABIs are the same. */
import { bytes, struct, u32 } from '../struct.js';

export const XenconsInterface = struct(
  { c: 'struct xencons_interface', header: 'io/console.h', abi: 'any', size: 3088 },
  {
    in: bytes(0, 1024),
    out: bytes(1024, 2048),
    in_cons: u32(3072),
    in_prod: u32(3076),
    out_cons: u32(3080),
    out_prod: u32(3084),
  },
);

/** Bytes in each ring. */
export const CONSOLE_IN_SIZE = 1024;
export const CONSOLE_OUT_SIZE = 2048;

/** Byte after the indices, in headers since Xen 4.19: tells the guest whether anybody serves the page. */
export const CONSOLE_CONNECTION_AT = 3088;
/** XENCONSOLE_CONNECTED is 0, so that a zeroed page of an older toolstack reads as connected. */
export const ConsoleConnection = Object.freeze({ CONNECTED: 0, DISCONNECTED: 1 });
