/** What a running guest's control socket answers about its memory. */
import { OperatorError } from '../../shim/observe/errors.js';
import type { StoreClient } from '../../shim/xenstore/client.js';
import type { ControlHandlers } from '../control/server.js';
import { DOMID } from './domid.js';
import type { Guest } from './guest.js';
import { notUp } from './not-up.js';

/** A guest whose balloon is driven below this kills its own processes, or worse. */
const LEAST = 32 * 2 ** 20;

export function memoryControl(guest: Guest, store: StoreClient, memory: number): ControlHandlers {
  return {
    'mem-set': ({ bytes }) => {
      if (guest.state === 'starting') notUp();
      if (!Number.isSafeInteger(bytes) || (bytes as number) < LEAST || (bytes as number) > memory) {
        throw new OperatorError('MEMORY_TARGET', `the guest cannot have ${Math.floor(Number(bytes) / 2 ** 20)} MiB`,
          `use 32 MiB to ${Math.floor(memory / 2 ** 20)} MiB, which QEMU's -m gives`);
      }
      store.write(`/local/domain/${DOMID}/memory/target`, String(Math.floor((bytes as number) / 1024)));
      return undefined;
    },
  };
}
