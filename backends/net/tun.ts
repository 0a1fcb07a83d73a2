/** The ioctls of linux/if_tun.h and linux/sockios.h a tap needs. Cold: called when a vif comes and goes. */
import type * as Ffi from 'ffi-napi';
import { closeSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/**
 * libc through ffi-napi, loaded with the first tap: a thread that has loaded ffi-napi brings the process down when it
 * ends, so only the main thread may get here, and a process without taps does without.
 */
function bind() {
  const ffi = require('ffi-napi') as typeof Ffi;
  return {
    errno: () => ffi.errno(),
    ...ffi.Library(null, {
      ioctl: ['int', ['int', 'ulong', 'pointer']],
      socket: ['int', ['int', 'int', 'int']],
    }),
    /** The same function for the requests that take their argument by value, where the pointer would be. */
    byValue: ffi.Library(null, { ioctl: ['int', ['int', 'ulong', 'ulong']] }),
  };
}

let bound: ReturnType<typeof bind> | undefined;
const libc = (): ReturnType<typeof bind> => (bound ??= bind());

export const IFNAMSIZ = 16;
/** sizeof(struct ifreq) */
const IFREQ = 40;
/** Offset of the union in struct ifreq. */
const IFR_UNION = 16;

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const TUNSETCARRIER = 0x400454e2;
const TUNGETFEATURES = 0x800454cf;

const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
const SIOCSIFHWADDR = 0x8924;
const SIOCGIFINDEX = 0x8933;
const SIOCBRADDIF = 0x89a2;

export const Iff = Object.freeze({ TAP: 0x0002, NO_PI: 0x1000, VNET_HDR: 0x4000, MULTI_QUEUE: 0x0100 });
export const TunOffload = Object.freeze({ CSUM: 1, TSO4: 2, TSO6: 4 });
const IFF_UP = 1;
const IFF_NOARP = 0x80;
const ARPHRD_ETHER = 1;

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;

/** 0, or a negative Linux errno. */
function ioctl(fd: number, request: number, argument: Buffer): number {
  return libc().ioctl(fd, request, argument) < 0 ? -libc().errno() : 0;
}

function ifreq(name: string): Buffer {
  const request = Buffer.alloc(IFREQ);
  request.write(name, 0, IFNAMSIZ - 1, 'latin1');
  return request;
}

function int(value: number): Buffer {
  const argument = Buffer.alloc(4);
  argument.writeInt32LE(value);
  return argument;
}

/** Attaches a descriptor of /dev/net/tun to an interface, making it if there is none. 0 or a negative errno. */
export function setInterface(fd: number, name: string, flags: number): number {
  const request = ifreq(name);
  request.writeUInt16LE(flags, IFR_UNION);
  return ioctl(fd, TUNSETIFF, request);
}

export const setVnetHeaderSize = (fd: number, bytes: number): number => ioctl(fd, TUNSETVNETHDRSZ, int(bytes));
export const setCarrier = (fd: number, on: boolean): number => ioctl(fd, TUNSETCARRIER, int(on ? 1 : 0));

/** TUNSETOFFLOAD takes its argument by value, where the pointer would be. */
export function setOffload(fd: number, bits: number): number {
  return libc().byValue.ioctl(fd, TUNSETOFFLOAD, bits) < 0 ? -libc().errno() : 0;
}

/** What the tun driver of this host can do (IFF_*), or a negative errno. */
export function getFeatures(fd: number): number {
  const features = Buffer.alloc(4);
  const error = ioctl(fd, TUNGETFEATURES, features);
  return error < 0 ? error : features.readInt32LE();
}

/** Runs `body` with a socket in this process's network namespace; a negative errno if there cannot be one. */
function withSocket(body: (fd: number) => number): number {
  const fd = libc().socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) return -libc().errno();
  try {
    return body(fd);
  } finally {
    closeSync(fd);
  }
}

export function interfaceExists(name: string): boolean {
  return withSocket((fd) => ioctl(fd, SIOCGIFINDEX, ifreq(name))) === 0;
}

/** Brings an interface up, as `ip link set NAME up`. 0 or a negative errno. */
export function bringUp(name: string): number {
  return addFlags(name, IFF_UP);
}

/** Leaves address resolution to whoever has addresses: a bridge's port has none. 0 or a negative errno. */
export function disableArp(name: string): number {
  return addFlags(name, IFF_NOARP);
}

function addFlags(name: string, flags: number): number {
  return withInterface(name, (fd, request) => {
    const error = ioctl(fd, SIOCGIFFLAGS, request);
    if (error < 0) return error;
    request.writeUInt16LE(request.readUInt16LE(IFR_UNION) | flags, IFR_UNION);
    return ioctl(fd, SIOCSIFFLAGS, request);
  });
}

/** Longest payload of a frame, or a negative errno. */
export function getMtu(name: string): number {
  return withInterface(name, (fd, request) => {
    const error = ioctl(fd, SIOCGIFMTU, request);
    return error < 0 ? error : request.readInt32LE(IFR_UNION);
  });
}

export function setMtu(name: string, bytes: number): number {
  return withInterface(name, (fd, request) => {
    request.writeInt32LE(bytes, IFR_UNION);
    return ioctl(fd, SIOCSIFMTU, request);
  });
}

/** @param address six bytes */
export function setAddress(name: string, address: Uint8Array): number {
  return withInterface(name, (fd, request) => {
    request.writeUInt16LE(ARPHRD_ETHER, IFR_UNION);
    request.set(address, IFR_UNION + 2);
    return ioctl(fd, SIOCSIFHWADDR, request);
  });
}

/** Makes an interface a port of a bridge. 0 or a negative errno: EPERM, ENODEV, EOPNOTSUPP when `bridge` is none. */
export function addToBridge(bridge: string, name: string): number {
  return withInterface(name, (fd, member) => {
    const error = ioctl(fd, SIOCGIFINDEX, member);
    if (error < 0) return error;
    const request = ifreq(bridge);
    member.copy(request, IFR_UNION, IFR_UNION, IFR_UNION + 4);
    return ioctl(fd, SIOCBRADDIF, request);
  });
}

const withInterface = (name: string, body: (fd: number, request: Buffer) => number): number =>
  withSocket((fd) => body(fd, ifreq(name)));
