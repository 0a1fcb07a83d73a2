/**
 * A guest's grant table as one thread works with it. All threads of a guest share its state (state.ts); backends reach
 * it through the layers in shim-hypercall.ts, the guest through guest-ops/, its domain through the cold methods here.
 */
import { Gntst, GNTTAB_NR_RESERVED_ENTRIES, Gtf } from '../abi/grant-table.js';
import { Domid } from '../abi/xen.js';
import { PAGE_SHIFT, PAGE_SIZE, type GuestMemory, type RamWindow } from '../memory/guest-memory.js';
import { ActiveEntries, UNUSUAL } from './active.js';
import { Errno } from '../abi/errno.js';
import { entryWord } from './entry-v1.js';
import { statusFramesFor, V2_ENTRIES_SHIFT } from './entry-v2.js';
import { TableFrames, type FramePlace } from './frames.js';
import { TableGuard } from './guard.js';
import { Maptrack } from './maptrack.js';
import { LEFT_ALONE, PAGE_OP_SHIFT, PageOp, type HandleBatch, type PageBatch } from './page-batch.js';
import { QuickGrants } from './quick-grants.js';
import { readReserved1, readReserved2, writeReserved1, writeReserved2 } from './reserved.js';
import { ENTRIES_SHIFT, GrantState, Head } from './state.js';

export interface GrantStats {
  readonly frames: number;
  /** Refs with at least one pin. */
  readonly pinnedRefs: number;
  readonly readonlyPins: number;
  readonly readwritePins: number;
  /** Handles in use. */
  readonly handles: number;
}

export class GrantTable {
  readonly state: GrantState;
  readonly frames: TableFrames;
  readonly active: ActiveEntries;
  readonly #maptrack: Maptrack;
  readonly #guard: TableGuard;
  readonly #words: Int32Array;
  #quick: QuickGrants | null = null;
  /** Batches begun and not ended. */
  #depth = 0;
  /** Where the page of the last successful `map` is. */
  mappedWindow: RamWindow;
  mappedOffset = 0;

  /**
   * @param shared from createGrantState
   * @param own all own pages as this thread maps them
   * @param domid of the guest
   */
  constructor(
    shared: SharedArrayBuffer,
    readonly memory: GuestMemory,
    own: RamWindow,
    readonly domid: number,
  ) {
    this.state = new GrantState(shared);
    this.#words = this.state.words;
    this.#guard = new TableGuard(this.state);
    this.frames = new TableFrames(this.state, memory, own);
    this.active = new ActiveEntries(this.state, this.frames, this.#guard.slot, (section) => {
      this.#alone(section);
    });
    this.mappedWindow = own;
    this.#maptrack = new Maptrack(this.state, this.#guard.slot);
  }

  /** Identifies this thread to `forgetThread`. */
  get thread(): number {
    return this.#guard.slot;
  }

  /** Begins a batch of map, unmap, pin and unpin; as many `leave`s end it. Short: whoever moves the table waits. */
  enter(): void {
    if (this.#depth++ > 0) return;
    this.#guard.enter();
    this.frames.refresh();
  }

  leave(): void {
    if (--this.#depth === 0) this.#guard.leave();
  }

  /** In the middle of a batch: leaves it, runs `section` with nobody in the table, and is in the batch again. */
  #alone(section: () => void): void {
    const depth = this.#depth;
    this.#depth = 0;
    this.#guard.leave();
    this.#guard.exclusive(section);
    this.enter();
    this.#depth = depth;
  }

  /**
   * Sleeps until the frame that an entry names is there, at most `ms`; out of the table meanwhile, even in the middle of a
   * batch. What the entry names may change at any time: this is a hint only.
   */
  waitForPage(ref: number, ms: number): void {
    const gfn = this.active.frameNamed(ref);
    const depth = this.#depth;
    this.#depth = 0;
    if (depth > 0) this.#guard.leave();
    this.memory.frames?.wait(gfn, ms);
    if (depth === 0) return;
    this.enter();
    this.#depth = depth;
  }

  /** Within a batch: maps a ref for a backend; returns a handle >= 0, with the page in `mapped…`, or a negative GNTST_*. */
  map(ref: number, readonly: boolean): number {
    const index = this.#maptrack.take();
    if (index < 0) return this.state.dying ? Gntst.bad_domain : Gntst.no_space;
    let status = this.active.pinFirst(ref, readonly);
    if (status === UNUSUAL) status = this.#pinUnusual(ref, readonly);
    if (status !== Gntst.okay) {
      this.#maptrack.putBack(index);
      return status;
    }
    this.#locate(this.active.frame(ref));
    return this.#maptrack.commit(index, ref, readonly);
  }

  /** From now on batches of pages go through native code, which needs the true addresses of all memory there is. */
  quicken(): void {
    this.#quick = new QuickGrants(this.state, this.#maptrack, this.active.unpinnedState);
    this.frames.serve(this.#quick);
  }

  /** Whether native code may do it: it knows version 1, and nothing of pins of frames. */
  get #plain(): boolean {
    const { residency, version2 } = this.frames;
    return !version2 && (residency === null || residency.idle);
  }

  /** Within a batch: maps every page, each as `map` does; returns how many failed. */
  mapPages(batch: PageBatch): number {
    const { words, count } = batch;
    const native = this.#quick !== null && this.#plain;
    if (native) {
      this.#maptrack.balance();
      if (this.#quick!.map(batch) === 0) return 0;
    }
    let failed = 0;
    for (let op = 0; op < count; op++) {
      if (native && words[(op << PAGE_OP_SHIFT) + PageOp.STATUS] !== LEFT_ALONE) continue;
      if (this.mapPage(batch, op) !== Gntst.okay) failed++;
    }
    return failed;
  }

  /** Within a batch: maps the page of one op, as `map` does; returns its status. */
  mapPage(batch: PageBatch, op: number): number {
    const { words } = batch;
    const at = op << PAGE_OP_SHIFT;
    const handle = this.map(words[at + PageOp.REF]!, words[at + PageOp.READONLY] !== 0);
    if (handle < 0) return (words[at + PageOp.STATUS] = handle);
    const address = this.mappedWindow.hva + this.mappedOffset;
    words[at + PageOp.HANDLE] = handle;
    words[at + PageOp.HVA_LO] = address | 0;
    words[at + PageOp.HVA_HI] = (address / 0x1_0000_0000) | 0;
    return (words[at + PageOp.STATUS] = Gntst.okay);
  }

  /** Leaves the page of a mapped op in `mapped…`, as its map in the table did or native code would have. */
  locatePage(batch: PageBatch, op: number): void {
    const { words } = batch;
    const at = op << PAGE_OP_SHIFT;
    const address = words[at + PageOp.HVA_HI]! * 0x1_0000_0000 + (words[at + PageOp.HVA_LO]! >>> 0);
    const holds = ({ hva, pages }: RamWindow): boolean => address >= hva && address < hva + pages * PAGE_SIZE;
    const window = this.memory.windows.find(holds) ?? this.frames.own;
    this.mappedWindow = window;
    this.mappedOffset = address - window.hva;
  }

  /** Within a batch: ends mappings; a handle that is none is passed over. */
  unmapHandles(batch: HandleBatch): void {
    if (this.#quick !== null && this.#plain) {
      const left = this.#quick.unmap(batch);
      this.#maptrack.balance();
      if (left === 0) return;
    }
    const { handle, count } = batch;
    for (let i = 0; i < count; i++) if (handle[i]! >= 0) this.unmap(handle[i]!);
  }

  /** Entries with other pins or of other threads, and all that is refused. */
  #pinUnusual(ref: number, readonly: boolean): number {
    return this.state.dying ? Gntst.bad_domain : this.pin(ref, Domid.BACKEND, readonly, true);
  }

  #locate(gfn: number): void {
    let window = this.memory.window(gfn);
    let page = 0;
    if (window !== undefined) {
      page = gfn - window.gfn;
    } else {
      window = this.frames.own;
      page = this.frames.ownPageAt(gfn);
    }
    this.mappedWindow = window;
    this.mappedOffset = page << PAGE_SHIFT;
  }

  /** Within a batch: ends a mapping; returns a GNTST_*. */
  unmap(handle: number): number {
    const meta = this.#maptrack.find(handle);
    if (meta === 0) return Gntst.bad_handle;
    const ref = this.#maptrack.ref(handle);
    if (ref >= this.state.maxRefs) return Gntst.bad_handle;
    if (this.active.unpinLast(ref, Maptrack.isReadonly(meta))) {
      this.#maptrack.free(handle);
      return Gntst.okay;
    }
    const pins = this.active.lock(ref);
    if (!this.#maptrack.still(handle, meta)) {
      this.active.unlock(ref, pins);
      return Gntst.bad_handle;
    }
    this.#maptrack.free(handle);
    this.active.unpinLocked(ref, pins, Maptrack.isReadonly(meta));
    return Gntst.okay;
  }

  /** Within a batch: a pin without a handle, as a copy takes, for the domain `mapper`; returns a GNTST_*. */
  pin(ref: number, mapper: number, readonly: boolean, mapping: boolean): number {
    if (!(ref >= 0 && ref < this.#words[Head.NR_REFS]!)) return Gntst.bad_gntref;
    return this.active.pin(ref, mapper, readonly, mapping);
  }

  unpin(ref: number, readonly: boolean): void {
    this.active.unpin(ref, readonly);
  }

  /** The ref of a handle in use. */
  refOf(handle: number): number {
    return this.#maptrack.ref(handle);
  }

  get nrFrames(): number {
    return this.state.nrFrames;
  }

  /** Of the entries. */
  get version(): number {
    return Atomics.load(this.#words, Head.VERSION);
  }

  get maxVersion(): number {
    return Atomics.load(this.#words, Head.MAX_VERSION);
  }

  get maxFrames(): number {
    return this.state.maxFrames;
  }

  /** Enlarges the table to `frames` frames, the new ones empty and in their own pages; false if that is too many. */
  growTo(frames: number): boolean {
    if (!(frames >= 0 && frames <= this.maxFrames)) return false;
    return this.#guard.exclusive(() => {
      this.frames.refresh();
      for (let frame = this.nrFrames; frame < frames; frame++) {
        this.frames.setPlace(frame, this.#home(frame));
        this.frames.frame(frame).fill(0);
        if (this.version === 2) this.#emptyStatus(statusFramesFor(frame), statusFramesFor(frame + 1));
        Atomics.store(this.#words, Head.NR_FRAMES, frame + 1);
        this.#countRefs();
      }
      return true;
    });
  }

  #countRefs(): void {
    const shift = this.version === 2 ? V2_ENTRIES_SHIFT : ENTRIES_SHIFT;
    Atomics.store(this.#words, Head.NR_REFS, this.nrFrames << shift);
  }

  /** Frames of status words there are: of a version 2 table only. */
  get nrStatusFrames(): number {
    return this.version === 2 ? statusFramesFor(this.nrFrames) : 0;
  }

  /** The numbers of all frames there are, those of status words after the others. */
  *allFrames(): Generator<number> {
    for (let frame = 0; frame < this.nrFrames; frame++) yield frame;
    for (let index = 0; index < this.nrStatusFrames; index++) yield this.statusFrame(index);
  }

  /** The number a status frame has among all frames, which is what the methods about frames and their places take. */
  statusFrame(index: number): number {
    return this.maxFrames + index;
  }

  #emptyStatus(from: number, to: number): void {
    for (let index = from; index < to; index++) {
      this.frames.setPlace(this.statusFrame(index), this.#home(this.statusFrame(index)));
      this.frames.frame(this.statusFrame(index)).fill(0);
    }
  }

  /**
   * Changes the layout of the entries. All are emptied but the reserved ones, which a toolstack's backends may use
   * meanwhile. Status frames must not be in the guest's sight any more when the version becomes 1.
   * @returns 0, -EBUSY (another grant is in use), -ERANGE (a reserved one has no counterpart)
   */
  setVersion(version: 1 | 2): number {
    if (version === this.version) return 0;
    return this.exclusive(() => {
      for (const _ of this.active.pinned(GNTTAB_NR_RESERVED_ENTRIES)) return -Errno.EBUSY;
      const kept = version === 2 ? readReserved1(this.frames) : readReserved2(this.frames);
      if (kept === undefined) return -Errno.ERANGE;
      for (let frame = 0; frame < this.nrFrames; frame++) this.frames.frame(frame).fill(0);
      Atomics.store(this.#words, Head.VERSION, version);
      this.#countRefs();
      Atomics.add(this.#words, Head.GENERATION, 1);
      this.frames.refresh();
      this.#emptyStatus(0, this.nrStatusFrames);
      this.active.forgetRanges();
      if (version === 2) writeReserved2(this.frames, kept);
      else writeReserved1(this.frames, kept);
      return 0;
    });
  }

  /** Where a frame is now. */
  placeOf(frame: number): FramePlace {
    return this.frames.place(frame);
  }

  /** The own page reserved for a frame. */
  #home(frame: number): FramePlace {
    return { own: this.#words[Head.FIRST_OWN_PAGE]! + frame };
  }

  /**
   * Moves a grant frame, contents and all: into guest RAM where the guest placed it, or back to its own page (`home`).
   * False if there is no such frame or no RAM there; nothing has changed then.
   */
  placeFrame(frame: number, where: 'home' | { readonly gfn: number }): boolean {
    if (!this.#isFrame(frame)) return false;
    if (where !== 'home' && this.memory.window(where.gfn) === undefined) return false;
    return this.#guard.exclusive(() => {
      this.frames.refresh();
      const contents = this.frames.frame(frame).slice();
      this.frames.setPlace(frame, where === 'home' ? this.#home(frame) : where);
      this.frames.frame(frame).set(contents);
      return true;
    });
  }

  #isFrame(frame: number): boolean {
    const status = frame - this.maxFrames;
    return (frame >= 0 && frame < this.nrFrames) || (status >= 0 && status < this.state.maxStatusFrames);
  }

  /** Records at which frame an own page is shown to the guest, so that grants of it resolve; undefined = nowhere. */
  showOwnPage(page: number, gfn: number | undefined): void {
    this.frames.setOwnPage(page, gfn);
  }

  /** The frame the guest sees a grant frame at, or -1. */
  gfnOfFrame(frame: number): number {
    const place = this.frames.place(frame);
    return 'own' in place ? this.frames.frameOfOwnPage(place.own) : place.gfn;
  }

  /** Writes a reserved entry (console 0, xenstore 1) that permits `domid` read-write access to `gfn`. */
  seedEntry(ref: number, domid: number, gfn: number): void {
    this.enter();
    const words = this.frames.words[ref >>> ENTRIES_SHIFT]!;
    const at = this.frames.entryAt(ref);
    Atomics.store(words, at + 1, gfn | 0);
    Atomics.store(words, at, entryWord(Gtf.permit_access, domid));
    this.leave();
  }

  /** Runs `section` with no other thread in the table. */
  exclusive<T>(section: () => T): T {
    return this.#guard.exclusive(() => {
      this.frames.refresh();
      return section();
    });
  }

  /** The guest is going away: drops the status bits of all pins. Later maps fail, unmaps succeed and only forget. */
  teardown(): void {
    this.exclusive(() => {
      if (this.state.dying) return;
      this.active.clearAllStatus();
      Atomics.store(this.#words, Head.DYING, 1);
    });
  }

  /** A fresh table, as after a reset of the machine: one empty frame at home; every handle is stale, no pin is left. */
  reset(): void {
    this.exclusive(() => {
      for (const handle of this.#maptrack.used()) this.#maptrack.free(handle);
      this.active.forgetAll();
      for (let frame = 0; frame < this.maxFrames; frame++) this.frames.setPlace(frame, this.#home(frame));
      for (let frame = 0; frame < this.nrFrames; frame++) this.frames.frame(frame).fill(0);
      this.#emptyStatus(0, this.state.maxStatusFrames);
      Atomics.store(this.#words, Head.NR_FRAMES, 1);
      Atomics.store(this.#words, Head.VERSION, 1);
      this.#countRefs();
      Atomics.add(this.#words, Head.GENERATION, 1);
      this.frames.refresh();
      Atomics.store(this.#words, Head.DYING, 0);
    });
  }

  /** Undoes what a thread left behind that ended without `detach`: its locks, pins of its handles, its free handles. */
  forgetThread(thread: number): void {
    this.#guard.forget(thread);
    this.exclusive(() => {
      this.active.breakLocks(thread);
    });
    this.enter();
    for (const handle of this.#maptrack.used(thread)) this.unmap(handle);
    this.leave();
    this.#maptrack.inherit(thread);
  }

  /** Leaves the table for good. Handles stay valid: another thread may unmap them. */
  detach(): void {
    this.#maptrack.release();
    this.#guard.release();
  }

  /** Frames with a pin: their pages must neither be given back to the host nor evicted. A snapshot. */
  pinnedFrames(): Set<number> {
    const frames = new Set<number>();
    for (const ref of this.active.pinned()) frames.add(this.active.frame(ref));
    return frames;
  }

  /** From now on a pinned entry pins its frame, too: somebody is about to take frames away. */
  countPins(): void {
    const { frames } = this.memory;
    if (frames === null || frames.counting) return;
    this.exclusive(() => {
      const pinned: number[] = [];
      for (const ref of this.active.pinned()) pinned.push(this.active.frame(ref));
      frames.count(pinned);
    });
  }

  stats(): GrantStats {
    let pinnedRefs = 0;
    let readonlyPins = 0;
    let readwritePins = 0;
    for (const ref of this.active.pinned()) {
      const pins = this.active.pins(ref);
      pinnedRefs++;
      readonlyPins += pins.ro;
      readwritePins += pins.rw;
    }
    let handles = 0;
    for (const handle of this.#maptrack.used()) handles += handle >= 0 ? 1 : 0;
    return { frames: this.nrFrames, pinnedRefs, readonlyPins, readwritePins, handles };
  }
}
