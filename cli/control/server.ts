/** The control socket of a running guest: one request, one answer, as often as the client likes. */
import { createServer, type Socket } from 'node:net';
import { existsSync, unlinkSync } from 'node:fs';
import { OperatorError } from '../../shim/observe/errors.js';
import { Deframer, frame } from './frames.js';
import { reachable } from './client.js';

export interface ControlRequest {
  readonly command: string;
  readonly args?: Readonly<Record<string, unknown>>;
}

/** What a command answers; an OperatorError it throws reaches the client as such. */
export type ControlHandlers = Readonly<Record<string, (args: Readonly<Record<string, unknown>>) => unknown>>;

export type ControlAnswer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly code: string; readonly message: string; readonly remedy: string };

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

async function answer(handlers: ControlHandlers, message: unknown): Promise<ControlAnswer> {
  const { command, args = {} } = isRecord(message) ? message : {};
  if (!isRecord(args)) {
    return { ok: false, code: 'BAD_REQUEST', message: 'the arguments have no names', remedy: 'send them as a map' };
  }
  const handler = typeof command === 'string' && Object.hasOwn(handlers, command) ? handlers[command] : undefined;
  if (handler === undefined) {
    return { ok: false, code: 'UNKNOWN_COMMAND', message: 'the guest does not know this command', remedy: 'use the xenshim that started it' };
  }
  try {
    return { ok: true, value: await handler(args) };
  } catch (error) {
    if (error instanceof OperatorError) {
      return { ok: false, code: error.code, message: error.message, remedy: error.remedy };
    }
    return { ok: false, code: 'INTERNAL', message: String((error as Error).message), remedy: 'this is a fault of xenshim' };
  }
}

function serve(socket: Socket, handlers: ControlHandlers): void {
  const deframer = new Deframer();
  let last = Promise.resolve();
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    try {
      for (const message of deframer.push(chunk)) {
        // Answers keep the order of their requests.
        last = last.then(async () => {
          const reply = frame(await answer(handlers, message));
          if (!socket.destroyed) socket.write(reply);
        });
      }
    } catch {
      socket.destroy();
    }
  });
}

export interface ControlServer {
  close(): Promise<void>;
}

/** @throws OperatorError when a guest of that name is running */
export async function serveControl(path: string, name: string, handlers: ControlHandlers): Promise<ControlServer> {
  if (existsSync(path)) {
    if (await reachable(path)) {
      throw new OperatorError('NAME_TAKEN', `a guest named '${name}' is running`, 'choose another --name');
    }
    unlinkSync(path);
  }
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    serve(socket, handlers);
  });
  await new Promise<void>((listening, failed) => {
    server.once('error', failed);
    server.listen(path, listening);
  });
  return {
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
