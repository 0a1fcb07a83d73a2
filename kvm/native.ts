/** The native addon, typed. Thin: descriptors, mappings, polling; every failure throws an Error whose message has the errno name. */
import { createRequire } from 'node:module';

export interface Mapping {
  /** Address in this process; a double holds it exactly. */
  readonly hva: number;
  readonly buffer: ArrayBuffer;
}

export interface Watcher {
  /** Stops watching; does not close the descriptor. Idempotent. */
  close(): void;
}

/** An io_uring of the thread that made it. Offsets are in bytes into `ring`; the layout is that of linux/io_uring.h. */
export interface NativeUring {
  readonly ring: ArrayBuffer;
  readonly sqes: ArrayBuffer;
  /** IORING_SETUP_* the kernel accepted. */
  readonly flags: number;
  readonly sqHead: number;
  readonly sqTail: number;
  readonly sqEntries: number;
  readonly cqHead: number;
  readonly cqTail: number;
  readonly cqEntries: number;
  readonly cqes: number;
  /** Four words that are `enter`'s arguments and result: to submit, least to wait for, timeout in µs (-1 = none), result. */
  readonly call: ArrayBuffer;
  /** io_uring_enter; the result is entries consumed or a negative Linux errno. Not a method: needs no `this`. */
  readonly enter: () => void;
  /** Names descriptors for IOSQE_FIXED_FILE by their index. */
  registerFiles(fds: readonly number[]): void;
  /** Unmaps and closes; the buffers must not be touched afterwards. Idempotent. */
  close(): void;
}

/** A pager with a thread of its own (kvm/pager). */
export interface NativePager {
  start(): void;
  /**
   * Evicts what can be of `count` frames: how many, or a negative errno: EBUSY = none, because of pins; EAGAIN = the
   * pager waits for room in its file.
   */
  evict(gfn: number, count: number): number;
  /** Ends the thread. What is not there then never comes back. Idempotent. */
  stop(): void;
}

/** Descriptors stay the caller's, who keeps them open until after `stop`. */
export interface PagerOptions {
  readonly uffd: number;
  /** memfd of a FrameHeader and a word per frame, and its length. */
  readonly words: number;
  readonly wordsBytes: number;
  /** The page file: frame n is at n × 4096. */
  readonly file: number;
  /** eventfd to wake the pager. */
  readonly bell: number;
  /** eventfd the pager writes: a request was served, or it is blocked or has failed. */
  readonly done: number;
  /** Frames. */
  readonly maxResident: number;
  /** `hva` in the process of the userfaultfd. */
  readonly ranges: readonly { gfn: number; pages: number; hva: number; fd: number; offset: number }[];
}

type FrameHeaderWord =
  | 'counting' | 'tracking' | 'resident' | 'max_resident' | 'idle' | 'head' | 'tail' | 'blocked' | 'failed' | 'failed_gfn'
  | 'faults' | 'requests' | 'refused' | 'paged_in' | 'zeroed' | 'evicted' | 'cancelled' | 'eagain' | 'released' | 'serving' | 'serving_since'
  | 'slowest' | 'crowded' | 'ring' | 'asked';

/** Reads and writes done by the calling thread; the layout of `entries` is that of kvm/addon/inline_file.cc. */
export interface NativeInlineFile {
  readonly entries: ArrayBuffer;
  run(first: number, count: number): void;
}

/** The commonest maps and unmaps, a batch a call (shim/grant-table/quick_grants.cc, where the layout of `call` is). */
export interface NativeQuickGrants {
  readonly call: ArrayBuffer;
  readonly map: () => void;
  readonly unmap: () => void;
}

/** Reads and writes done by the calling thread; the layout of `call` is that of kvm/addon/vector_io.cc. */
export interface NativeVectorIo {
  readonly call: ArrayBuffer;
  readonly read: () => void;
  readonly write: () => void;
}

/** Copies of short pieces of memory, a list a call; the layout of `list` is that of kvm/addon/gather.cc. */
export interface NativeGather {
  readonly list: ArrayBuffer;
  readonly run: () => void;
}

/** Discards carried out by a thread of their own (kvm/addon/discarder.cc). */
export interface NativeDiscarder {
  push(id: number, offset: number, length: number, secure: boolean): void;
  /** Pairs of id and result (0 or a negative Linux errno); returns how many pairs. */
  take(into: Int32Array): number;
  /** While true, no further piece is begun. */
  abandon(yes: boolean): void;
  close(): void;
}

export interface Native {
  /** mmap(MAP_SHARED) read-write; `align` (bytes, a power of two, or 0) is the alignment of the address. */
  mapShared(fd: number, offset: number, length: number, align: number): Mapping;
  /** Private zeroed memory, as above. */
  mapAnonymous(length: number, align: number): Mapping;
  /** Unmaps; the buffer must not be touched afterwards. */
  unmap(hva: number, length: number): void;
  /** Gives private memory back to the host; it reads as zeros when touched again. */
  discard(hva: number, length: number): void;
  memfd(name: string, length: number): number;
  /** Non-blocking, close-on-exec eventfd with counter 0. */
  eventfd(): number;
  eventfdSignal(fd: number): void;
  /** Reads and clears the counter; 0 if it was 0. */
  eventfdDrain(fd: number): number;
  /** A timer on CLOCK_MONOTONIC, to be watched and drained like an eventfd. */
  timerfd(): number;
  /** Makes it readable `ns` nanoseconds from now; 0 disarms it. */
  timerfdSet(fd: number, ns: number): void;
  closeFd(fd: number): void;
  /** Calls back on this thread's event loop while the descriptor is readable. */
  watchReadable(fd: number, readable: () => void): Watcher;

  /** A pair of connected SOCK_SEQPACKET sockets, both close-on-exec: ours and the one to hand on. */
  channelPair(): [number, number];
  channelSend(fd: number, message: Uint8Array, fds?: readonly number[]): void;
  /**
   * A received descriptor or -1; undefined when nothing came within `timeout` ms (-1 waits); null at the end. All
   * descriptors, at most three, go into `all`; without it those after the first are closed.
   */
  channelReceive(fd: number, message: Uint8Array, timeout: number, all?: number[]): number | undefined | null;
  /** Wakes everyone who sleeps on the 32-bit word at `offset`. */
  futexWake(buffer: ArrayBuffer, offset: number): void;
  /** Spins up to `ns` for a vCPU's request in the bridge memory. */
  spinForRequest(bridge: ArrayBuffer, ns: number): boolean;
  readonly bridgeLayout: BridgeLayout;
  readonly bridgeOps: Readonly<Record<BridgeOpName, number>>;

  /** @param plain without RWF_NOWAIT; makes the descriptor non-blocking */
  readonly VectorIo: new (fd: number, plain: boolean) => NativeVectorIo;
  readonly Gather: new (into: ArrayBufferLike, capacity: number) => NativeGather;
  readonly InlineFile: new (fd: number, entries: number) => NativeInlineFile;
  readonly Discarder: new (fd: number, bell: number, piece: number, start: number) => NativeDiscarder;
  /** Whether a block device open for writing takes BLKSECDISCARD; touches no data. */
  secureErase(fd: number): boolean;
  /** f_type of statfs(2). */
  fileSystemType(fd: number): number;

  /** @param words of the grant table's shared state */
  readonly QuickGrants: new (words: Int32Array) => NativeQuickGrants;

  readonly Uring: new (entries: number, cqEntries: number) => NativeUring;

  /** Sleeps while the 32-bit word at `offset` has the value, at most `ms`. */
  futexWait(buffer: ArrayBuffer, offset: number, value: number, ms: number): void;
  /** Word indices of FrameHeader (kvm/core/frames.h). */
  readonly frameHeader: Readonly<Record<FrameHeaderWord | 'WORDS' | 'RING', number>>;
  /** 0, or the Linux errno for which this process can have no userfaultfd as the pager needs it. */
  userfaultfdProblem(): number;
  readonly Pager: new (options: PagerOptions) => NativePager;
  /** A listening unix stream socket, close-on-exec and non-blocking. */
  unixListen(path: string): number;
  /** A connected one, whether accepted yet or not. Error with errno EAGAIN when too many wait to be accepted. */
  unixConnect(path: string): number;
  /** Fills the buffer: 1, 0 when nothing came within `timeout` ms, -1 at the end of the stream. */
  streamReceive(fd: number, buffer: Uint8Array, timeout: number): number;
  /** Ends both directions of a socket, whoever else holds it. */
  shutdownSocket(fd: number): void;

  /** A unix stream socket connected to a path of at most 107 bytes, or a negative Linux errno; it blocks. */
  streamConnect(path: string): number;
  /** One that listens there, and does not block; or a negative errno. */
  streamListen(path: string): number;
  /** The next peer of a listening one, or a negative errno. */
  streamAccept(fd: number): number;
  /** Two connected unix stream sockets. All of these are close-on-exec. */
  streamPair(): [number, number];

  /** Takes a shared open-file-description lock; false if another description holds an exclusive one there. */
  lockShared(fd: number, start: number, length: number): boolean;
  /** Gives up this description's locks there. */
  unlock(fd: number, start: number, length: number): void;
  /** Whether another open file description holds any lock there. */
  lockHeld(fd: number, start: number, length: number): boolean;
  /** BLKGETSIZE64, in bytes. */
  blockDeviceSize(fd: number): number;
  /** BLKSSZGET and BLKPBSZGET, in bytes. */
  blockDeviceSectors(fd: number): { logical: number; physical: number };
  /** STATX_DIOALIGN, in bytes; undefined where kernel or file system does not tell, or there is no O_DIRECT. */
  directAlignment(fd: number): { memory: number; offset: number } | undefined;
  /** Deallocates a range and keeps the size; 0 or a positive Linux errno. */
  punchHole(fd: number, offset: number, length: number): number;
}

/** Byte offsets of kvm/core/protocol.h. */
export interface BridgeLayout {
  readonly header: Offsets<'magic' | 'version' | 'sleeping' | 'ram_generation' | 'spin_ns' | 'pending' | 'created'>;
  readonly slot: Offsets<
    | 'state' | 'waiting' | 'kind' | 'nr' | 'cpl' | 'long_mode'
    | 'args' | 'cr0' | 'cr3' | 'cr4' | 'efer' | 'result'
  >;
  readonly message: Offsets<'op' | 'seq' | 'result' | 'arg' | 'text'>;
  readonly sharedSize: number;
  readonly maxVcpus: number;
  readonly magic: number;
  readonly version: number;
}

type Offsets<Names extends string> = Readonly<Record<Names | 'SIZE', number>>;

type BridgeOpName =
  | 'SetLongMode' | 'SetSharedInfo' | 'SetCallbackVector' | 'SetVcpuInfo' | 'SetVcpuTimeInfo' | 'SetRunstateArea'
  | 'SetRunstateUpdate' | 'GetRunstate' | 'SetUpcallVector' | 'SetTimer' | 'RouteSend' | 'BindIrqfd' | 'MoveIrqfd'
  | 'UnbindIrqfd' | 'PlacePage' | 'RemovePage' | 'GetTime' | 'SetKernelPoll' | 'WatchRam' | 'RamMapping' | 'RamWatch'
  | 'Raise' | 'SetGsi' | 'Power' | 'Hello' | 'Reply' | 'RamBegin'
  | 'RamFile' | 'RamRange' | 'RamEnd' | 'LogLine' | 'Init';

const require = createRequire(import.meta.url);

/** Loaded from kvm/build, whether this file runs from the source tree or from dist/. */
function load(): Native {
  const tried: string[] = [];
  for (const path of ['./build/Release/xenshim_native.node', '../../kvm/build/Release/xenshim_native.node']) {
    try {
      return require(path) as Native;
    } catch (error) {
      tried.push((error as Error).message);
    }
  }
  throw new Error(`the native part is not built (npm run build:native): ${tried.join('; ')}`);
}

export const native: Native = load();
