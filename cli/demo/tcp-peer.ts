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

function say(message: PeerMessage): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function sink(socket: Socket): void {
  const started = Date.now();
  const hash = createHash('sha256');
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    say({ kind: 'received', bytes, sha256: hash.digest('hex'), seconds: (Date.now() - started) / 1000 });
  });
}

/** A random block, each time with a number in front: cheap to make, and no two places alike. */
async function source(socket: Socket): Promise<void> {
  const started = Date.now();
  const hash = createHash('sha256');
  const random = randomBytes(2 ** 20);
  socket.on('error', () => {});
  for (let at = 0; at < TRANSFER_BYTES; at += random.length) {
    const block = Buffer.from(random);
    block.writeUInt32LE(at, 0);
    hash.update(block);
    if (!socket.write(block)) await new Promise((resolve) => socket.once('drain', resolve));
  }
  socket.end();
  const seconds = (Date.now() - started) / 1000;
  say({ kind: 'sent', bytes: TRANSFER_BYTES, sha256: hash.digest('hex'), seconds });
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '0.0.0.0', resolve);
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await listen(createServer(sink), SINK_PORT);
  await listen(createServer((socket) => void source(socket)), SOURCE_PORT);
  say({ kind: 'listening' });
}
