/**
 * The store on a unix socket, for host tools: `XENSTORED_PATH=<path> xenstore-ls`. Same wire protocol as the ring, with
 * dom0's rights, so the socket is the owner's alone.
 */
import { chmodSync, lstatSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { SockMsg, XENSTORE_PAYLOAD_MAX } from '../abi/io/xs_wire.js';
import { OperatorError } from '../observe/errors.js';
import type { Xenstore } from './xenstore.js';

export interface SocketOptions {
  /** Clients at a time; one more is turned away. */
  readonly maxConnections?: number;
}

export interface StoreSocket {
  readonly path: string;
  /** Ends every client and removes the socket. */
  close(): Promise<void>;
}

/** Bytes a client may leave unread before its requests wait. */
const UNREAD_PAUSE = 1 << 20;
/** Bytes of events a client may leave unread before it is dropped. */
const UNREAD_LIMIT = 16 << 20;

/**
 * Listens at `path`. A socket left there by a process that is gone is replaced.
 * @throws OperatorError XENSTORE_SOCKET_BUSY when somebody answers there, XENSTORE_SOCKET when it cannot be made
 */
export async function serveSocket(xenstore: Xenstore, path: string, options: SocketOptions = {}): Promise<StoreSocket> {
  const { maxConnections = 64 } = options;
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there !== undefined && (!there.isSocket() || (await answers(path)))) {
    throw new OperatorError('XENSTORE_SOCKET_BUSY', `${path} is in use`, 'choose another path or end its owner');
  }
  const clients = new Set<Socket>();
  const server = createServer((socket) => {
    clients.add(socket);
    socket.on('close', () => clients.delete(socket));
    serveClient(xenstore, socket);
  });
  server.maxConnections = maxConnections;
  await listen(server, path);
  return {
    path,
    close: () =>
      new Promise((done) => {
        rmSync(path, { force: true });
        server.close(() => done());
        for (const client of clients) client.destroy();
      }),
  };
}

/** Made in a directory of its own and moved into place, so that it is never open to others, not even for a moment. */
async function listen(server: Server, path: string): Promise<void> {
  let directory: string | undefined;
  try {
    directory = mkdtempSync(`${path}.`);
    const made = `${directory}/s`;
    await new Promise<void>((listening, failed) => {
      server.once('error', failed);
      server.listen(made, listening);
    });
    chmodSync(made, 0o600);
    renameSync(made, path);
  } catch (error) {
    server.close();
    const reason = error instanceof Error ? error.message : String(error);
    const remedy = 'choose a path of at most 98 bytes in a directory that can be written';
    throw new OperatorError('XENSTORE_SOCKET', `cannot listen at ${path}: ${reason}`, remedy);
  } finally {
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((done) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      done(true);
    });
    probe.once('error', () => done(false));
  });
}

function serveClient(xenstore: Xenstore, socket: Socket): void {
  const connection = xenstore.hostConnection(() => flush());
  const { outbox } = connection;
  let input = Buffer.alloc(0);

  const flush = (): void => {
    if (outbox.size > UNREAD_LIMIT) return void socket.destroy();
    while (!socket.destroyed && socket.writableLength < UNREAD_PAUSE) {
      const head = outbox.head();
      if (head === undefined) return;
      socket.write(head);
      outbox.shift();
    }
    socket.pause();
  };

  const takeIn = (): void => {
    let at = 0;
    while (input.length - at >= SockMsg.SIZE) {
      const length = input.readUInt32LE(at + SockMsg.len);
      if (length > XENSTORE_PAYLOAD_MAX) return void socket.destroy();
      const end = at + SockMsg.SIZE + length;
      if (input.length < end) break;
      connection.handle({
        type: input.readUInt32LE(at + SockMsg.type),
        reqId: input.readUInt32LE(at + SockMsg.req_id),
        txId: input.readUInt32LE(at + SockMsg.tx_id),
        payload: input.subarray(at + SockMsg.SIZE, end),
      });
      at = end;
    }
    input = Buffer.from(input.subarray(at));
    flush();
  };

  socket.on('data', (chunk: Buffer) => {
    input = Buffer.concat([input, chunk]);
    takeIn();
  });
  socket.on('drain', () => {
    flush();
    if (outbox.head() === undefined) socket.resume();
  });
  // A client that goes away is no news; 'close' follows.
  socket.on('error', () => {});
  socket.on('close', () => connection.reset());
}
