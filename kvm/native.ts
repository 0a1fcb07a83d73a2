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

export interface Native {
  /** mmap(MAP_SHARED) read-write; `align` (bytes, a power of two, or 0) is the alignment of the address. */
  mapShared(fd: number, offset: number, length: number, align: number): Mapping;
  /** Private zeroed memory, as above. */
  mapAnonymous(length: number, align: number): Mapping;
  /** Unmaps; the buffer must not be touched afterwards. */
  unmap(hva: number, length: number): void;
  memfd(name: string, length: number): number;
  /** Non-blocking, close-on-exec eventfd with counter 0. */
  eventfd(): number;
  eventfdSignal(fd: number): void;
  /** Reads and clears the counter; 0 if it was 0. */
  eventfdDrain(fd: number): number;
  closeFd(fd: number): void;
  /** Calls back on this thread's event loop while the descriptor is readable. */
  watchReadable(fd: number, readable: () => void): Watcher;
}

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
