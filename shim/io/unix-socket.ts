/** Unix sockets as plain descriptors, close-on-exec, by narrow names. Failures are negative Linux errnos. */
import { native } from '../../kvm/native.js';

/** Bytes of a path in an address (struct sockaddr_un), the zero that ends it left out. */
const MAX_PATH = 107;

/** Whether a path fits into an address. */
export const fitsSocket = (path: string): boolean =>
  path !== '' && !path.includes('\0') && Buffer.byteLength(path) <= MAX_PATH;

/** A stream socket connected to a path. */
export const connectUnix = (path: string): number => native.streamConnect(path);
/** A stream socket that listens at a path, where there must be nothing. */
export const listenUnix = (path: string): number => native.streamListen(path);
/** The next that has connected. */
export const acceptUnix = (fd: number): number => native.streamAccept(fd);
/** Two connected stream sockets. @throws Error without descriptors left */
export const streamPair = (): [number, number] => native.streamPair();
/** Two connected sockets that keep messages apart. @throws Error without descriptors left */
export const messagePair = (): [number, number] => native.channelPair();
