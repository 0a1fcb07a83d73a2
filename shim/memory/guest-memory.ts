/**
 * Guest RAM as this thread sees it: a list of windows onto the shared memfd. A window is at most 2 GiB, so that a byte
 * offset inside it is a positive 32-bit integer and hot code never leaves integer arithmetic (one ArrayBuffer could
 * hold 4 GiB on Node 20, but offsets above 2^31 are doubles there). A page never straddles two windows.
 */
export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;
/** Pages per window at most. */
export const WINDOW_PAGES = 2 ** 19;

export interface RamWindow {
  /** First guest frame number. */
  readonly gfn: number;
  /** Length in pages. */
  readonly pages: number;
  /** Address of the window in this process (below 2^47, so a double holds it exactly). */
  readonly hva: number;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly view: DataView;
}

import type { Frames } from './frames.js';

export type { RamRange } from '../../kvm/bridge.js';

/** Makes a window from memory already mapped. */
export function ramWindow(gfn: number, buffer: ArrayBufferLike, hva: number): RamWindow {
  return Object.freeze({
    gfn,
    pages: buffer.byteLength / PAGE_SIZE,
    hva,
    u8: new Uint8Array(buffer),
    i32: new Int32Array(buffer),
    view: new DataView(buffer),
  });
}

/**
 * Checked access to guest-physical memory. Nothing here throws on a guest's address: a range that is not wholly RAM is
 * reported (`false`, `undefined`) and left untouched.
 */
export class GuestMemory {
  /** Which frames are there; null where nobody takes any away. */
  frames: Frames | null = null;
  #windows: readonly RamWindow[];
  #last: RamWindow | undefined;

  constructor(windows: readonly RamWindow[]) {
    this.#windows = windows;
    this.#last = windows[0];
  }

  get windows(): readonly RamWindow[] {
    return this.#windows;
  }

  /** Replaces the layout (memory hot-plug, a fresh snapshot after the firmware has moved things). */
  replace(windows: readonly RamWindow[]): void {
    this.#windows = windows;
    this.#last = windows[0];
  }

  /** The window that holds a frame, or undefined for a hole, MMIO or a frame number out of range. */
  window(gfn: number): RamWindow | undefined {
    const last = this.#last;
    if (last !== undefined && gfn >= last.gfn && gfn < last.gfn + last.pages) return last;
    const windows = this.#windows;
    // eslint-disable-next-line @typescript-eslint/prefer-for-of -- hot: grants ask for a window each
    for (let i = 0; i < windows.length; i++) {
      const window = windows[i]!;
      if (gfn >= window.gfn && gfn < window.gfn + window.pages) {
        this.#last = window;
        return window;
      }
    }
    return undefined;
  }

  /**
   * Copies `length` bytes from guest-physical `gpa`; false if any of it is not RAM. As `write`, it waits for a page that
   * is paged out, and is therefore the main thread's.
   */
  read(gpa: number, into: Uint8Array, length = into.length): boolean {
    return this.#span(gpa, length, (window, at, done, part) => {
      into.set(window.u8.subarray(at, at + part), done);
    });
  }

  /** Copies `from` to guest-physical `gpa`; false (and nothing written) if any of the target is not RAM. */
  write(gpa: number, from: Uint8Array, length = from.length): boolean {
    return this.#span(gpa, length, (window, at, done, part) => {
      window.u8.set(from.subarray(done, done + part), at);
    });
  }

  #span(
    gpa: number,
    length: number,
    each: (window: RamWindow, at: number, done: number, part: number) => void,
  ): boolean {
    if (!(gpa >= 0) || !Number.isSafeInteger(gpa + length)) return false;
    const end = gpa + length;
    for (let page = Math.floor(gpa / PAGE_SIZE); page * PAGE_SIZE < end; page++) {
      if (this.window(page) === undefined) return false;
    }
    for (let at = gpa; at < end; ) {
      const gfn = Math.floor(at / PAGE_SIZE);
      const window = this.window(gfn);
      if (window === undefined) return false;
      const inPage = at - gfn * PAGE_SIZE;
      const part = Math.min(PAGE_SIZE - inPage, end - at);
      if (this.frames !== null && !this.frames.use(gfn)) return false;
      each(window, (gfn - window.gfn) * PAGE_SIZE + inPage, at - gpa, part);
      this.frames?.used(gfn);
      at += part;
    }
    return true;
  }
}
