/** Unix stream sockets that pass descriptors, by narrow names. */
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { native } from '../../kvm/native.js';

/** Linux's O_PATH, which Node does not name. */
const O_PATH = 0o10000000;

/** A listening socket that has no name in the file system any more: nothing of it can be left behind. */
export interface Meeting {
  /** The listening socket, to be inherited by whoever accepts. Non-blocking, close-on-exec. */
  readonly listenFd: number;
  /** The socket's place, for `connectTo`. */
  readonly placeFd: number;
  close(): void;
}

export function openMeeting(): Meeting {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-'));
  try {
    const path = join(dir, 'socket');
    const listenFd = native.unixListen(path);
    try {
      const placeFd = openSync(path, O_PATH | constants.O_RDONLY);
      return {
        listenFd,
        placeFd,
        close: () => {
          closeSync(placeFd);
          native.closeFd(listenFd);
        },
      };
    } catch (error) {
      native.closeFd(listenFd);
      throw error;
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Connects to a meeting; nobody may have accepted yet. @throws Error with errno EAGAIN when too many wait there */
export const connectTo = (placeFd: number): number => native.unixConnect(`/proc/self/fd/${placeFd}`);

/** Sends one message and the descriptors that go with it. @throws Error with errno */
export const sendWith = (fd: number, message: Uint8Array, fds: readonly number[]): void => {
  native.channelSend(fd, message, fds);
};

/** Fills the buffer: true, or why not. `timeout` in ms. */
export function receiveInto(fd: number, buffer: Uint8Array, timeout: number): true | 'timeout' | 'end' {
  const result = native.streamReceive(fd, buffer, timeout);
  return result === 1 ? true : result === 0 ? 'timeout' : 'end';
}

/** Ends the connection even where a poll in io_uring still holds it. */
export function hangUp(fd: number): void {
  native.shutdownSocket(fd);
  native.closeFd(fd);
}
