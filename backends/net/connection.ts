/** A connected vif as its worker holds it: ring pages pinned, queues and loop over them. */
import { Errno } from '../../shim/abi/errno.js';
import { NETIF_RING_SIZE, NetifRxRequest, NetifTxRequest } from '../../shim/abi/io/netif.js';
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import { arena as allocate } from '../../shim/io/memory.js';
import { IoUring } from '../../shim/io/uring.js';
import { XenError } from '../../shim/observe/errors.js';
import { BackRing } from '../../shim/ring/back-ring.js';
import type { RingPage } from '../../shim/ring/back-ring.js';
import { arenaOver, putIovec } from './arena.js';
import type { Arena } from './arena.js';
import type { Control } from '../worker-host.js';
import { CaptureWriter } from './capture-ring.js';
import { Credit } from './credit.js';
import type { VifConnect, VifReport } from './messages.js';
import { MulticastFilter } from './multicast.js';
import { mapRingPage } from './ring-page.js';
import { RX_DIRECT_ARENA_BYTES } from './rx-direct.js';
import { RX_ARENA_BYTES, RxQueue } from './rx-queue.js';
import { RxPolicy } from './rx-policy.js';
import { TX_ARENA_BYTES, TxQueue } from './tx-queue.js';
import { openVifLink } from './vif-link.js';
import type { VifLink } from './vif-link.js';
import { VifLoop } from './vif-loop.js';
import { VIF_MEMORY_BYTES } from './vif-memory.js';

/** Entries of one pass: every packet a ring can hold, every read, polls and cancellations. */
const URING_ENTRIES = 512;
const URING_COMPLETIONS = 1024;

export interface Connection {
  readonly loop: VifLoop;
  readonly tx: TxQueue;
  readonly rx: RxQueue;
  /** Gives everything back. The loop must not run any more. */
  close(): void;
}

export interface ConnectionOptions {
  readonly grants: ForeignGrants;
  readonly counters: Float64Array;
  /** What the queues of the vif share; default: memory of this queue's own. */
  readonly memory?: SharedArrayBuffer;
  readonly control: Control;
  readonly report: (report: VifReport) => void;
  readonly params: VifConnect;
  /** ms, the same for all queues of a vif; default: the thread's own clock. */
  readonly now?: () => number;
}

/**
 * Attaches to a frontend's rings.
 * @throws XenError when a ring page cannot be mapped (EINVAL) or its indexes cannot be right (EIO)
 */
export function openConnection(options: ConnectionOptions): Connection {
  const { grants, counters, control, report, params, now = () => performance.now() } = options;
  const { memory: shared = new SharedArrayBuffer(VIF_MEMORY_BYTES) } = options;
  const undo: (() => void)[] = [];
  const close = (): void => {
    for (const step of undo.splice(0).reverse()) step();
  };
  const memory = (bytes: number): Arena => {
    const { lo, hi, i32, free } = allocate(bytes);
    undo.push(free);
    return arenaOver(i32.buffer, hi * 2 ** 32 + (lo >>> 0));
  };
  const attach = (name: string, ref: number, slotBytes: number): { ring: BackRing; page: RingPage } => {
    const page = mapRingPage(grants, name, ref, undo);
    const ring = new BackRing([page], NETIF_RING_SIZE, slotBytes);
    if (ring.halted) throw new XenError(Errno.EIO, `${name} ring: more requests than slots`);
    return { ring, page };
  };
  try {
    const { capture: place } = params;
    const capture = place && new CaptureWriter(place.memory, place.snapLength, new Int32Array(place.bell));
    const txRing = attach('tx', params.txRef, NetifTxRequest.SIZE);
    const rxRing = attach('rx', params.rxRef, NetifRxRequest.SIZE);
    const queue: { tx?: TxQueue; rx?: RxQueue } = {};
    undo.push(() => {
      queue.tx?.abandon();
      queue.rx?.abandon();
      queue.tx?.free();
      queue.rx?.free();
    });
    // Closed before the pages it might still be writing from are unpinned.
    const uring = new IoUring(URING_ENTRIES, URING_COMPLETIONS);
    undo.push(() => {
      uring.close();
    });
    uring.registerFiles([params.linkFd]);
    const rxArena = memory(RX_ARENA_BYTES);
    const link = openVifLink({
      uring, fd: params.linkFd, waits: params.linkWaits, plain: params.linkPlain, scratch: rxArena,
    });
    const credit = new Credit(params.rate, now(), shared);
    const tx = (queue.tx = new TxQueue({
      ring: txRing.ring, grants, sink: link, arena: memory(TX_ARENA_BYTES), counters, credit,
      multicast: new MulticastFilter(shared), capture, oneByOne: params.linkWaits,
    }));
    const rx = (queue.rx = new RxQueue({
      ...rxRing, grants, source: link, arena: rxArena, directArena: memory(RX_DIRECT_ARENA_BYTES), counters,
      offloads: params.offloads, scatterGather: params.scatterGather, notifies: params.notifies,
      policy: new RxPolicy(shared, params.place), capture,
    }));
    tx.settings = rx.settings = params.settings;
    discardStale(link, rxArena);
    const loop = new VifLoop({
      uring, link, tx, rx, channels: params.channels, control, credit, counters, report, now,
    });
    return { loop, tx, rx, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** More than a tap queues by default (txqueuelen 1000). */
const MAX_STALE = 2048;
/** Behind the iovec of those reads. */
const STALE_AT = 16;

/** Reads what the link still holds for an earlier connection, which may have had other offloads, and forgets it. */
function discardStale(link: VifLink, arena: Arena): void {
  putIovec(arena, 0, 0, arena.hva + STALE_AT, arena.u8.length - STALE_AT);
  for (let frames = 0; frames < MAX_STALE && link.readNow(arena.hva, 1) > 0; frames++) {
    // Nobody's.
  }
}
