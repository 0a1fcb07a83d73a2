/**
 * How a thread gets at a guest: it maps the guest's RAM and our own pages for itself, and joins the grant table. The
 * same for the main thread and for the workers of backends.
 */
import { native } from '../../kvm/native.js';
import { BackendGrants } from '../grant-table/backend-grants.js';
import type { ForeignGrants } from '../grant-table/foreign.js';
import { GrantTable } from '../grant-table/table.js';
import type { Patience } from '../grant-table/settle.js';
import { grantResidency } from '../grant-table/residency.js';
import { Frames, type FrameHandles } from './frames.js';
import { GuestMemory, PAGE_SIZE, ramWindow, WINDOW_PAGES, type RamRange, type RamWindow } from './guest-memory.js';

/**
 * Windows begin at multiples of 4 GiB: the low half of a window's address is 0, so adding an offset never carries, and
 * address space costs nothing.
 */
const WINDOW_ALIGN = 2 ** 32;

/** What a thread needs to reach a guest. Structured-clonable: it goes to a worker in a message. */
export interface GuestHandles {
  readonly ram: readonly RamRange[];
  readonly own: { readonly fd: number; readonly pages: number };
  /** From createGrantState. */
  readonly grants: SharedArrayBuffer;
  readonly domid: number;
  /** Without it no frame is ever taken away. */
  readonly frames?: FrameHandles;
}

/** A piece of guest RAM: where it is in a file, and where this thread has it. Bytes. */
export interface SharedRange {
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
  readonly hva: number;
}

/** A guest as the attached thread sees it. */
export interface AttachedGuest {
  readonly memory: GuestMemory;
  /** All own pages; offset = page × 4096. */
  readonly own: RamWindow;
  readonly grants: ForeignGrants;
  readonly grantTable: GrantTable;
  /** The current layout as ranges of files: for handing guest RAM on to another process of the host. */
  shared(): readonly SharedRange[];
  /** Follows a new layout of guest RAM. Ranges that stayed keep their addresses, gone ones stay mapped until detach. */
  remap(ram: readonly RamRange[]): void;
  /** Unmaps everything and leaves the grant table. Nothing obtained from it may be touched afterwards. */
  detach(): void;
}

/**
 * Maps the guest's memory into this thread.
 * @param patience how `grants` waits for pages that are paged out; null: it does not
 * Throws what mmap reports: descriptors that are not what they should be.
 */
export function attachGuest(handles: GuestHandles, patience: Patience | null = null): AttachedGuest {
  const mapped: { hva: number; length: number }[] = [];
  const known = new Map<string, RamWindow>();
  let shared: SharedRange[] = [];

  const mapWindow = (fd: number, offset: number, gfn: number, pages: number): RamWindow => {
    const length = pages * PAGE_SIZE;
    const { hva, buffer } = native.mapShared(fd, offset, length, WINDOW_ALIGN);
    mapped.push({ hva, length });
    return ramWindow(gfn, buffer, hva);
  };
  const windowsOf = (ram: readonly RamRange[]): RamWindow[] => {
    shared = [];
    return splitRanges(ram).map(({ fd, offset, gfn, pages }) => {
      const key = `${fd}:${offset}:${gfn}:${pages}`;
      const window = known.get(key) ?? mapWindow(fd, offset, gfn, pages);
      known.set(key, window);
      shared.push({ fd, offset, length: pages * PAGE_SIZE, hva: window.hva });
      return window;
    });
  };
  const unmapAll = (): void => {
    for (const { hva, length } of mapped.splice(0)) native.unmap(hva, length);
  };

  try {
    const memory = new GuestMemory(windowsOf(handles.ram));
    const frames = handles.frames && new Frames(handles.frames);
    frames?.layout(handles.ram);
    memory.frames = frames ?? null;
    const own = mapWindow(handles.own.fd, 0, 0, handles.own.pages);
    const grantTable = new GrantTable(handles.grants, memory, own, handles.domid);
    grantTable.quicken();
    if (frames !== undefined) grantTable.frames.residency = grantResidency(frames);
    return {
      memory,
      own,
      grantTable,
      grants: new BackendGrants(grantTable, patience),
      shared: () => shared,
      remap(ram) {
        memory.replace(windowsOf(ram));
        frames?.layout(ram);
        grantTable.frames.reload();
      },
      detach() {
        grantTable.detach();
        memory.replace([]);
        frames?.unmap();
        unmapAll();
      },
    };
  } catch (error) {
    unmapAll();
    throw error;
  }
}

/** Cuts ranges into pieces of at most a window, in order of their frames. */
export function splitRanges(ram: readonly RamRange[]): RamRange[] {
  const pieces: RamRange[] = [];
  for (const range of ram) {
    for (let done = 0; done < range.pages; done += WINDOW_PAGES) {
      pieces.push({
        fd: range.fd,
        offset: range.offset + done * PAGE_SIZE,
        gfn: range.gfn + done,
        pages: Math.min(WINDOW_PAGES, range.pages - done),
      });
    }
  }
  return pieces.sort((a, b) => a.gfn - b.gfn);
}
