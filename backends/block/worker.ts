/** A thread of a disk: maps the guest, owns the io_uring, serves one connection at a time. */
import { fstatSync } from 'node:fs';

import { attachGuest } from '../../shim/memory/attach.js';
import type { AttachedGuest } from '../../shim/memory/attach.js';
import { inMemory, puntsWrites } from '../../shim/io/inline-file.js';
import { IoUring } from '../../shim/io/uring.js';
import { serveWorker } from '../worker-host.js';
import { MAX_BUFFER_PAGES } from './bounce-pool.js';
import { Connection } from './connection.js';
import type { ConnectionParts } from './connection.js';
import { BlockLoop } from './loop.js';
import type { WorkerEvent, WorkerRequest, WorkerSettings } from './messages.js';
import { BufferedIo } from './target/buffered-io.js';
import { DeviceIo } from './target/device-io.js';
import { FileIo } from './target/file-io.js';
import { InlineIo } from './target/inline-io.js';
import { NullIo } from './target/null-io.js';
import type { Target } from './target/target.js';
import type { TargetIo } from './target/target-io.js';
import { VhostUserIo } from './target/vhost-user/vhost-user-io.js';

/** Entries submitted at once. */
const SUBMISSIONS = 256;
/** Room for every request of four rings of the largest order, and their events. */
const COMPLETIONS = 4096;

serveWorker<WorkerSettings>((settings, control, emit, patience) => {
  const guest = attachGuest(settings.guest, patience);
  const uring = new IoUring(SUBMISSIONS, COMPLETIONS);
  const tell = (event: WorkerEvent): void => {
    emit(event);
  };
  const io = openTarget(settings, uring, guest, tell);
  const loop = new BlockLoop(uring, io, control, (queue) => {
    tell({ kind: 'halted', queue });
  });
  let { target } = settings;
  const { statistics } = settings;
  const parts: Omit<ConnectionParts, 'target'> = {
    grants: guest.grants,
    io,
    statistics,
    clock: loop.clock,
    alert: (alert, queue) => {
      tell({ kind: 'alert', alert, queue });
    },
  };
  let maxBufferPages = MAX_BUFFER_PAGES;
  let connection: Connection | undefined;
  tell({ kind: 'attached', thread: guest.grantTable.thread });

  const disconnect = (): void => {
    loop.drain();
    connection?.release();
    connection = undefined;
  };

  return {
    get active() {
      return loop.active;
    },
    run() {
      loop.run();
    },
    handle(message) {
      const request = message as WorkerRequest;
      switch (request.kind) {
        case 'connect':
          disconnect();
          connection = new Connection({ ...parts, target }, request.protocol, request.queues, {
            persistent: request.persistent,
            maxBufferPages,
          });
          loop.attach(connection.queues);
          break;
        case 'drain':
          loop.drain();
          break;
        case 'release':
          disconnect();
          break;
        case 'resize': {
          const smaller = request.sectors < target.sectors;
          target = { ...target, sectors: request.sectors };
          connection?.resize(target);
          if (smaller) loop.settle();
          break;
        }
        case 'max-buffer-pages':
          maxBufferPages = request.pages;
          connection?.setMaxBufferPages(maxBufferPages);
          break;
        case 'remap':
          guest.remap(request.ram);
          io.remap();
          break;
      }
      return undefined;
    },
    close() {
      disconnect();
      io.close();
      uring.close();
      guest.detach();
    },
  };
});

/** One class of target per worker, so that the queues' calls into it stay monomorphic. */
function openTarget(
  { place, target }: WorkerSettings,
  uring: IoUring,
  guest: AttachedGuest,
  tell: (event: WorkerEvent) => void,
): TargetIo {
  if (place.kind === 'null') return new NullIo();
  if (place.kind === 'file') {
    // The file system a device node is on (devtmpfs) says nothing of the device.
    const device = fstatSync(place.fd).isBlockDevice();
    if (!device && inMemory(place.fd)) return new InlineIo(place.fd);
    uring.registerFiles([place.fd]);
    if (device) return openDevice(target, uring, place.fd);
    const buffered = target.alignment === undefined && puntsWrites(place.fd);
    return buffered ? new BufferedIo(uring, place.fd) : new FileIo(uring);
  }
  return new VhostUserIo({
    uring,
    ...place,
    memory: () => guest.shared(),
    tell: (news) => {
      tell({ kind: 'target', news });
    },
  });
}

/** A device that does not discard is no more than a file. */
function openDevice({ discardGranularity: granularity, discardAlignment: alignment = 0 }: Target, uring: IoUring, fd: number): TargetIo {
  return granularity === undefined ? new FileIo(uring) : new DeviceIo(uring, fd, { granularity, alignment });
}
