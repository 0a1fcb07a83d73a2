/** A link that ends in a stream socket: a pair of sockets that keep frames apart, and a relay between them and it. */
import { closeFd } from '../../shim/io/eventfd.js';
import { messagePair } from '../../shim/io/unix-socket.js';
import type { Log } from '../../shim/observe/log.js';
import { threadScript } from '../thread-scripts.js';
import { WorkerHost } from '../worker-host.js';
import type { Link } from './link.js';
import type { RelayRequest } from './relay-worker.js';

export interface StreamLinkOptions {
  readonly description: string;
  readonly log: Log;
  /** Bytes of payload a TCP segment has at least, for a peer that takes frames of any size. */
  readonly segment?: number;
  /** The stream has ended and is closed; `attach` another one. */
  lost(): void;
  /** The link is closed. */
  closed(): void;
}

export interface StreamLink extends Link {
  /** Takes over a connected stream socket. */
  attach(fd: number): void;
}

export function openStreamLink({ description, log, segment = 0, lost, closed }: StreamLinkOptions): StreamLink {
  const [fd, relayFd] = messagePair();
  let stream = -1;
  let open = true;
  const closeStream = (): void => {
    if (stream >= 0) closeFd(stream);
    stream = -1;
  };
  const relay = new WorkerHost({
    script: threadScript('relay'),
    name: description,
    data: { vif: relayFd, segment },
    log,
    event: () => {
      closeStream();
      if (open) lost();
    },
    lost: () => {
      closeStream();
    },
  });
  const tell = (request: RelayRequest): void => {
    if (open) relay.call(request).catch(() => {});
  };
  return {
    description,
    fd,
    waits: true,
    attach(connected: number) {
      stream = connected;
      tell({ kind: 'stream', fd: connected });
    },
    setOffloads() {
      // Frames of the stream are always finished.
    },
    setCarrier(on: boolean) {
      tell({ kind: 'carrier', on });
    },
    close() {
      if (!open) return;
      open = false;
      closed();
      void relay.close().then(() => {
        closeStream();
        closeFd(relayFd);
      });
      closeFd(fd);
    },
  };
}
