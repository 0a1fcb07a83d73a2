/** The link `socket=PATH`: frames over a unix stream socket, as QEMU's `-netdev stream` speaks them. */
import { unlinkSync } from 'node:fs';
import { closeFd } from '../../shim/io/eventfd.js';
import { watchReadable } from '../../shim/io/watch.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import type { Link } from './link.js';
import { openStreamLink } from './stream-link.js';
import { acceptUnix, connectUnix, fitsSocket, listenUnix } from '../../shim/io/unix-socket.js';

/** ms between attempts to reach a peer that has gone. */
const RETRY_MS = 500;

const Linux = Object.freeze({ ENOENT: 2, EACCES: 13, EADDRINUSE: 98, ECONNREFUSED: 111 });

function checkPath(path: string): void {
  if (fitsSocket(path)) return;
  throw new OperatorError('SOCKET_PATH', `'${path}' cannot be the path of a socket`, 'use 1 to 107 bytes');
}

/** Connects, and again whenever the peer has gone. @throws OperatorError SOCKET_PATH, SOCKET_CONNECT */
export function openSocketLink(path: string, log: Log): Link {
  checkPath(path);
  const first = connectUnix(path);
  if (first < 0) throw refused(path, -first);
  let timer: NodeJS.Timeout | undefined;
  const link = openStreamLink({
    description: `socket=${path}`,
    log,
    lost: () => {
      log.warn({ path }, 'the peer of the socket has gone; trying to reach it again');
      timer = setInterval(retry, RETRY_MS);
      timer.unref();
    },
    closed: () => {
      clearInterval(timer);
    },
  });
  function retry(): void {
    const fd = connectUnix(path);
    if (fd < 0) return;
    clearInterval(timer);
    log.info({ path }, 'the peer of the socket is back');
    link.attach(fd);
  }
  link.attach(first);
  return link;
}

/** Listens, for one peer at a time. @throws OperatorError SOCKET_PATH, SOCKET_LISTEN */
export function openSocketServer(path: string, log: Log): Link {
  checkPath(path);
  let listening = listenUnix(path);
  if (listening === -Linux.EADDRINUSE && connectIsRefused(path)) {
    // Left behind by a program that is no more.
    unlinkSync(path);
    listening = listenUnix(path);
  }
  if (listening < 0) {
    throw new OperatorError('SOCKET_LISTEN', `socket=${path}: cannot listen there (errno ${-listening})`, 'choose another path');
  }
  let taken = false;
  const accept = (): void => {
    // Others wait until this one has gone.
    if (taken) return;
    const fd = acceptUnix(listening);
    if (fd < 0) return;
    taken = true;
    stopAccepting();
    log.info({ path }, 'a peer has connected to the socket');
    link.attach(fd);
  };
  let stopAccepting = watchReadable(listening, accept);
  const link = openStreamLink({
    description: `socket=${path}`,
    log,
    lost: () => {
      taken = false;
      log.info({ path }, 'the peer of the socket has gone');
      stopAccepting = watchReadable(listening, accept);
    },
    closed: () => {
      stopAccepting();
      closeFd(listening);
      unlinkSync(path);
    },
  });
  return link;
}

function connectIsRefused(path: string): boolean {
  const fd = connectUnix(path);
  if (fd >= 0) closeFd(fd);
  return fd === -Linux.ECONNREFUSED;
}

function refused(path: string, errno: number): OperatorError {
  const remedy =
    errno === Linux.EACCES
      ? 'make it writable for this user'
      : 'start the program that listens there first, or listen yourself with socket=PATH,server';
  const reason =
    errno === Linux.ENOENT ? 'there is no such socket' : errno === Linux.ECONNREFUSED ? 'nobody listens there' : `errno ${errno}`;
  return new OperatorError('SOCKET_CONNECT', `socket=${path}: ${reason}`, remedy);
}
