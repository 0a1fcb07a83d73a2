/** A unix socket as a console: any number of clients see the output, and all may type. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import type { Log } from '../../shim/observe/log.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Endpoint, Typist } from './endpoint.js';
import { MAX_BEHIND } from './endpoint.js';

export const MAX_CLIENTS = 16;

/** sun_path of struct sockaddr_un, with its NUL. */
const MAX_PATH = 107;

/**
 * Listens on `path`, which only its owner may connect to.
 * @throws OperatorError CONSOLE_SOCKET
 */
export async function openSocket(path: string, typist: Typist, log: Log): Promise<Endpoint> {
  const refuse = (why: string): OperatorError =>
    new OperatorError('CONSOLE_SOCKET', `console socket ${path}: ${why}`, 'choose another path');
  if (Buffer.byteLength(path) > MAX_PATH) throw refuse(`longer than ${MAX_PATH} bytes`);

  const clients = new Set<Socket>();
  const server = createServer((client) => {
    if (clients.size >= MAX_CLIENTS) {
      client.destroy();
      return;
    }
    clients.add(client);
    client.on('data', (bytes) => {
      if (!typist.type(bytes as Buffer)) client.pause();
    });
    client.on('error', () => client.destroy());
    client.on('close', () => clients.delete(client));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(refuse(error.code ?? error.message));
    });
    server.listen(path, resolve);
  });
  server.on('error', (error) => {
    log.warn({ path, err: error }, 'console socket');
  });
  chmodSync(path, 0o600);

  return {
    print(bytes) {
      if (clients.size === 0) return;
      const copy = Buffer.from(bytes);
      for (const client of clients) {
        // Whoever does not read is let go rather than remembered for.
        if (client.writableLength > MAX_BEHIND) client.destroy();
        else client.write(copy);
      }
    },
    resume() {
      for (const client of clients) client.resume();
    },
    close() {
      server.close();
      for (const client of clients) client.end();
      rmSync(path, { force: true });
    },
  };
}
