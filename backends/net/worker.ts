/** The thread of one vif. Between connections it sits in its event loop; during one, the vif's loop has it. */
import { parentPort, workerData } from 'node:worker_threads';
import { Errno } from '../../shim/abi/errno.js';
import { attachGuest } from '../../shim/memory/attach.js';
import { XenError } from '../../shim/observe/errors.js';
import { openConnection } from './connection.js';
import type { FromVifWorker, ToVifWorker, VifConnect, VifWorkerData } from './messages.js';

const { handles, counters } = workerData as VifWorkerData;
const guest = attachGuest(handles);
const shared = new Float64Array(counters);

function say(message: FromVifWorker): void {
  parentPort!.postMessage(message);
}

function serve(params: VifConnect): void {
  let connection;
  try {
    connection = openConnection(guest.grants, shared, params, say);
  } catch (error) {
    // Anything but the guest's mistake is ours, and costs this vif alone.
    const errno = error instanceof XenError ? error.errno : Errno.EIO;
    say({ kind: 'refused', errno, text: (error as Error).message });
    return;
  }
  say({ kind: 'connected' });
  try {
    connection.loop.run();
  } finally {
    connection.close();
    say({ kind: 'stopped' });
  }
}

parentPort!.on('message', (message: ToVifWorker) => {
  if (message.kind === 'connect') {
    serve(message);
    return;
  }
  guest.detach();
  parentPort!.close();
});
