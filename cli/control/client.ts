/** Asks a running guest's xenshim to do something. */
import { connect } from 'node:net';
import { OperatorError } from '../../shim/observe/errors.js';
import { runDir, runningNames } from '../run-dir.js';
import { Deframer, frame } from './frames.js';
import type { ControlAnswer } from './server.js';

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

/** @throws OperatorError NO_GUEST, or what the other side says */
export async function ask(name: string, command: string, args: Record<string, unknown> = {}): Promise<unknown> {
  const answer = await new Promise<ControlAnswer>((resolve, reject) => {
    const deframer = new Deframer();
    const socket = connect(runDir(name).control);
    socket.once('error', () => {
      const names = runningNames();
      reject(new OperatorError('NO_GUEST', `no guest named '${name}' is running`,
        names.length > 0 ? `running: ${names.join(', ')}` : 'start one with `xenshim run`'));
    });
    socket.once('connect', () => socket.write(frame({ command, args })));
    socket.on('data', (chunk: Buffer) => {
      const [message] = deframer.push(chunk);
      if (message === undefined) return;
      resolve(message as ControlAnswer);
      socket.end();
    });
    socket.once('close', () =>
      reject(new OperatorError('NO_ANSWER', `the guest '${name}' ended without an answer`, 'see its log')));
  });
  if (!answer.ok) throw new OperatorError(answer.code, answer.message, answer.remedy);
  return answer.value;
}
