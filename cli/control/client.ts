/** Asks a running guest's xenshim to do something. */
import { connect } from 'node:net';
import { OperatorError } from '../../shim/observe/errors.js';
import { runDir, runningNames } from '../run-dir.js';
import { Deframer, frame } from './frames.js';
import type { ControlAnswer, ControlRequest } from './server.js';

/** Whether somebody listens on a unix socket. */
export function reachable(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

const isAnswer = (message: unknown): message is ControlAnswer =>
  typeof message === 'object' && message !== null && 'ok' in message && typeof message.ok === 'boolean';

/** @throws OperatorError NO_GUEST, NO_PERMISSION, NO_ANSWER, or what the other side says */
export async function ask(name: string, command: string, args: Record<string, unknown> = {}): Promise<unknown> {
  const answer = await new Promise<ControlAnswer>((resolve, reject) => {
    const deframer = new Deframer();
    const socket = connect(runDir(name).control);
    let connected = false;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // What fails later is the guest's end, and 'close' reports it.
      if (connected) return;
      if (error.code === 'EACCES') {
        reject(new OperatorError('NO_PERMISSION', `the guest '${name}' is somebody else's`, 'become its owner, or root'));
        return;
      }
      const names = runningNames();
      reject(new OperatorError('NO_GUEST', `no guest named '${name}' is running`,
        names.length > 0 ? `running: ${names.join(', ')}` : 'start one with `xenshim run`'));
    });
    socket.once('connect', () => {
      connected = true;
      socket.write(frame({ command, args } satisfies ControlRequest));
    });
    socket.on('data', (chunk: Buffer) => {
      try {
        const [message] = deframer.push(chunk);
        if (message === undefined) return;
        if (isAnswer(message)) resolve(message);
        socket.end();
      } catch {
        socket.destroy();
      }
    });
    socket.once('close', () =>
      reject(new OperatorError('NO_ANSWER', `the guest '${name}' ended without an answer`, 'see its log')));
  });
  if (!answer.ok) throw new OperatorError(answer.code, answer.message, answer.remedy);
  return answer.value;
}
