/** The thread between a vif and a stream of frames. */
import { serveWorker } from '../worker-host.js';
import { StreamRelay } from './stream-relay.js';

export interface RelayWorkerSettings {
  /** Our end of the vif's link; a sequence of messages, frames behind virtio-net headers. */
  readonly vif: number;
  /** Bytes of payload a segment has at least; 0 leaves it to the guest. */
  readonly segment: number;
}

export type RelayRequest =
  /** A connected stream socket. */
  { readonly kind: 'stream'; readonly fd: number } | { readonly kind: 'carrier'; readonly on: boolean };

/** The stream has ended; its descriptor may be closed. */
export interface RelayEvent {
  readonly kind: 'lost';
}

serveWorker<RelayWorkerSettings>((settings, control, emit) => {
  const relay = new StreamRelay(settings.vif, settings.segment, control, () => {
    emit({ kind: 'lost' } satisfies RelayEvent);
  });
  let open = true;
  return {
    get active() {
      return open;
    },
    run() {
      relay.run();
    },
    handle(message) {
      const request = message as RelayRequest;
      if (request.kind === 'stream') relay.attach(request.fd);
      else relay.carrier = request.on;
      return undefined;
    },
    close() {
      open = false;
      relay.close();
    },
  };
});
