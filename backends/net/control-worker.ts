/** The thread of a vif's control ring. There is one only while the frontend has such a ring: most have none. */
import { attachGuest } from '../../shim/memory/attach.js';
import { serveWorker } from '../worker-host.js';
import { ControlRing } from './control-ring.js';
import type { ControlRequest, ControlWorkerSettings, VifEvent } from './messages.js';

serveWorker<ControlWorkerSettings>((settings, control, emit, patience) => {
  const guest = attachGuest(settings.guest, patience);
  const tell = (event: VifEvent): void => {
    emit(event);
  };
  let ring: ControlRing | undefined;
  tell({ kind: 'attached', thread: guest.grantTable.thread });

  const disconnect = (): void => {
    ring?.close();
    ring = undefined;
  };

  return {
    get active() {
      return ring !== undefined;
    },
    run() {
      ring?.run();
    },
    handle(message) {
      const request = message as ControlRequest;
      if (request.kind === 'remap') {
        guest.remap(request.ram);
      } else {
        disconnect();
        ring = new ControlRing({
          grants: guest.grants, control, memory: settings.memory, params: request.connect,
          dead: () => {
            tell({ kind: 'controlDead' });
          },
        });
      }
      return undefined;
    },
    close() {
      disconnect();
      guest.detach();
    },
  };
});
