/** The thread of one queue of a vif: maps the guest, serves one connection at a time. */
import { attachGuest } from '../../shim/memory/attach.js';
import { serveWorker } from '../worker-host.js';
import { openConnection } from './connection.js';
import type { Connection } from './connection.js';
import type { VifEvent, VifRequest, VifWorkerSettings } from './messages.js';

serveWorker<VifWorkerSettings>((settings, control, emit, patience) => {
  const guest = attachGuest(settings.guest, patience);
  const counters = new Float64Array(settings.counters);
  // A clock that all threads agree on: each thread's performance.now() begins when it does.
  const origin = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  const now = (): number => origin + performance.now();
  const tell = (event: VifEvent): void => {
    emit(event);
  };
  let connection: Connection | undefined;
  tell({ kind: 'attached', thread: guest.grantTable.thread });

  const disconnect = (): void => {
    connection?.close();
    connection = undefined;
  };

  return {
    get active() {
      return connection !== undefined;
    },
    run() {
      connection?.loop.run();
    },
    handle(message) {
      const request = message as VifRequest;
      switch (request.kind) {
        case 'connect':
          disconnect();
          connection = openConnection({
            grants: guest.grants, counters, memory: settings.memory, control, report: tell, params: request.connect, now,
          });
          break;
        case 'disconnect':
          disconnect();
          break;
        case 'rate':
          connection?.loop.setRate(request.rate);
          break;
        case 'live':
          if (connection !== undefined) connection.tx.settings = connection.rx.settings = request.settings;
          break;
        case 'disable':
          if (connection !== undefined) connection.tx.disabled = true;
          break;
        case 'remap':
          guest.remap(request.ram);
          break;
      }
      return undefined;
    },
    close() {
      disconnect();
      guest.detach();
    },
  };
});
