/** Memory with a known address, for structures the kernel reads: iovecs and the like. */
import { native } from '../../kvm/native.js';

export interface Arena {
  /** Address of the first byte, in the two words io_uring entries take. */
  readonly lo: number;
  readonly hi: number;
  readonly i32: Int32Array;
  /** Gives whole pages back to the host, from byte `at` on; they read as zeros when touched again. */
  discard(at: number, length: number): void;
  free(): void;
}

/** Zeroed private memory below a 4 GiB boundary, so that `hi` is the same for all of it. Pages appear when touched. */
export function arena(bytes: number): Arena {
  const align = 2 ** Math.ceil(Math.log2(Math.max(bytes, 4096)));
  const { hva, buffer } = native.mapAnonymous(bytes, align);
  return {
    lo: hva | 0,
    hi: Math.floor(hva / 0x1_0000_0000),
    i32: new Int32Array(buffer),
    discard: (at, length) => {
      native.discard(hva + at, length);
    },
    free: () => {
      native.unmap(hva, bytes);
    },
  };
}

export interface SharedArena extends Omit<Arena, 'discard'> {
  /** The memfd it is in, from its first byte on. */
  readonly fd: number;
  readonly bytes: number;
  readonly u16: Uint16Array;
  readonly u8: Uint8Array;
}

/** The same in a memfd of its own, to be shared with another process. */
export function sharedArena(name: string, bytes: number): SharedArena {
  const align = 2 ** Math.ceil(Math.log2(Math.max(bytes, 4096)));
  const fd = native.memfd(name, bytes);
  try {
    const { hva, buffer } = native.mapShared(fd, 0, bytes, align);
    return {
      fd,
      bytes,
      lo: hva | 0,
      hi: Math.floor(hva / 0x1_0000_0000),
      i32: new Int32Array(buffer),
      u16: new Uint16Array(buffer),
      u8: new Uint8Array(buffer),
      free: () => {
        native.unmap(hva, bytes);
        native.closeFd(fd);
      },
    };
  } catch (error) {
    native.closeFd(fd);
    throw error;
  }
}
