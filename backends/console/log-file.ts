/** A file as a console: keeps what the guest prints. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Endpoint } from './endpoint.js';

/** A file that has grown this long is moved to `<path>.1`, whose predecessor goes: a guest must not fill the disk. */
export const MAX_LOG_BYTES = 16 << 20;

/** @throws OperatorError CONSOLE_LOG */
export function openLogFile(path: string, limit = MAX_LOG_BYTES): Endpoint {
  const open = (): number => {
    try {
      return openSync(path, 'a', 0o600);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
      throw new OperatorError('CONSOLE_LOG', `console log ${path}: ${code}`, 'choose a path that can be written');
    }
  };
  let fd = open();
  let size = fstatSync(fd).size;
  let broken = false;
  return {
    print(bytes) {
      if (broken) return;
      try {
        if (size >= limit) {
          closeSync(fd);
          renameSync(path, `${path}.1`);
          fd = open();
          size = 0;
        }
        size += writeSync(fd, bytes);
      } catch {
        // A full disk costs the log, not the guest.
        broken = true;
      }
    },
    resume() {},
    close() {
      try {
        closeSync(fd);
      } catch {
        // Already closed when moving the file went wrong.
      }
    },
  };
}
