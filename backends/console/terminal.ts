/** The terminal the command runs in, as a console. */
import type { Readable, Writable } from 'node:stream';
import type { Endpoint, Typist } from './endpoint.js';
import { MAX_BEHIND } from './endpoint.js';

/** Ctrl-]: gives the terminal back. The guest goes on, and so does its output; nothing typed reaches it any more. */
export const DETACH_KEY = 0x1d;

/** A TTY's input has a raw mode; a pipe's has not. */
type Input = Readable & { isTTY?: boolean; setRawMode?(raw: boolean): unknown };

export interface TerminalOptions {
  readonly input: Input;
  readonly output: Writable;
  /** Ctrl-] was typed on a TTY; the terminal is already as it was before. */
  readonly detached?: () => void;
}

/** On a TTY every key goes to the guest (raw mode), Ctrl-C included; Ctrl-] ends that. A pipe is passed on as it is. */
export function openTerminal({ input, output, detached }: TerminalOptions, typist: Typist): Endpoint {
  const tty = input.isTTY === true;
  let attached = true;

  const typed = (chunk: Buffer): void => {
    const end = tty ? chunk.indexOf(DETACH_KEY) : -1;
    const bytes = end < 0 ? chunk : chunk.subarray(0, end);
    if (bytes.length > 0 && !typist.type(bytes)) input.pause();
    if (end < 0) return;
    detach();
    detached?.();
  };
  const detach = (): void => {
    if (!attached) return;
    attached = false;
    input.off('data', typed);
    input.pause();
    if (tty) input.setRawMode?.(false);
  };

  if (tty) input.setRawMode?.(true);
  input.on('data', typed);
  input.resume();
  return {
    print(bytes) {
      if (output.writableLength < MAX_BEHIND) output.write(Buffer.from(bytes));
    },
    resume() {
      if (attached) input.resume();
    },
    close: detach,
  };
}
