/**
 * The program at the host's end of the TCP transfers, run in the guest's network namespace: hashes what arrives on one
 * port, sends known bytes to whoever connects to the other. Says what it did in lines of JSON.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { pathToFileURL } from 'node:url';

export const SINK_PORT = 5001;
export const SOURCE_PORT = 5002;
export const TRANSFER_BYTES = 64 * 2 ** 20;

interface Transfer {
  readonly bytes: number;
  readonly sha256: string;
  readonly seconds: number;
}

export type PeerMessage =
  | { readonly kind: 'listening' }
  | ({ readonly kind: 'received' } & Transfer)
  | ({ readonly kind: 'sent' } & Transfer);

export function say<Message = PeerMessage>(message: Message): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

const since = (started: number): number => (Date.now() - started) / 1000;

export function sink(socket: Socket): void {
  const started = Date.now();
  const hash = createHash('sha256');
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    say({ kind: 'received', bytes, sha256: hash.digest('hex'), seconds: since(started) });
  });
}

/** A random block, each time with its place in front: cheap to make, and no two places alike. */
export async function source(socket: Socket, total: number): Promise<void> {
  const started = Date.now();
  const hash = createHash('sha256');
  const random = randomBytes(2 ** 20);
  let open = true;
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      open = false;
      resolve();
    });
  });
  for (let at = 0; at < total && open; at += random.length) {
    const block = Buffer.from(random.subarray(0, total - at));
    block.writeUInt32LE(at >>> 0, 0);
    hash.update(block);
    if (!socket.write(block)) await Promise.race([closed, new Promise((resolve) => socket.once('drain', resolve))]);
  }
  socket.end();
  if (open) say({ kind: 'sent', bytes: total, sha256: hash.digest('hex'), seconds: since(started) });
}

/** @param address to listen at */
export function listen(server: Server, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await listen(createServer(sink), SINK_PORT, '0.0.0.0');
  await listen(createServer((socket) => void source(socket, TRANSFER_BYTES)), SOURCE_PORT, '0.0.0.0');
  say({ kind: 'listening' });
}
