/**
 * Between a vif and a stream of frames, each after its length as a 32-bit big-endian number: what QEMU's stream netdev
 * and passt speak. The vif's end keeps frames apart and has virtio-net headers; what they leave to the link, checksums and
 * segmentation, is done here.
 */
import { Doorbell } from '../../shim/io/doorbell.js';
import { arena as allocate } from '../../shim/io/memory.js';
import { IoUring, UringOp } from '../../shim/io/uring.js';
import { PAGE_SIZE } from '../../shim/memory/guest-memory.js';
import type { Control } from '../worker-host.js';
import { arenaOver, putIovec } from './arena.js';
import type { Arena } from './arena.js';
import { completeChecksum } from './checksum.js';
import { MIN_FRAME } from './headers.js';
import { Segmenter } from './segmenter.js';
import { VnetFlag, VnetGso, VnetHeader } from './vnet-header.js';

/** Frames of the vif on their way to the stream. */
const SLOTS = 16;
const SLOT_BYTES = 17 * PAGE_SIZE;
/** Bytes of the stream on their way to the vif. */
const IN_BYTES = 256 * 1024;
/** Frames handed to the vif in one row. */
const CHAIN = 32;
const PREFIX = 4;
/** A stream that takes nothing for so long, µs, loses frames: the guest's others must not wait for it for ever. */
const PATIENCE_US = 200_000;
/** Longer than any frame: the other side speaks something else. */
const MAX_FRAME = SLOT_BYTES - VnetHeader.SIZE;
/** Room for the segments of a slot: twice a frame, so that only segments as small as their headers do not fit. */
const CUT_BYTES = 2 * SLOT_BYTES;

/** One slot more than hold frames: for those that are let go. */
const CUT_AT = (SLOTS + 1) * SLOT_BYTES;
const IN_AT = CUT_AT + SLOTS * CUT_BYTES;
const OUT_IOVECS = IN_AT + IN_BYTES;
const IN_IOVECS = OUT_IOVECS + SLOTS * 16;
/** A header that says nothing. */
const EMPTY_HEADER = IN_IOVECS + CHAIN * 32;
const ARENA_BYTES = EMPTY_HEADER + 16;

/** IOSQE_IO_LINK: the next entry begins when this one has ended, and not at all if it failed. */
const IO_LINK = 4;
const HIGH = 2 ** 32;

const Kind = Object.freeze({ TAKE: 1, WRITE: 2, READ: 3, GIVE: 4, BELL: 5 });

export class StreamRelay {
  readonly #uring = new IoUring(64, 256);
  readonly #arena: Arena;
  readonly #free: () => void;
  readonly #bell: Doorbell;
  readonly #vif: number;
  readonly #control: Control;
  readonly #lost: () => void;

  #stream = -1;
  /** The stream is no good any more; its descriptor is given back when nothing uses it. */
  #ending = false;
  #carrier = false;

  readonly #segmenter: Segmenter;
  readonly #shortest: number;

  /** Slots that hold frames for the stream: [#first, #first + #held), round and round; where in the arena, and how much. */
  readonly #starts = new Int32Array(SLOTS);
  readonly #lengths = new Int32Array(SLOTS);
  #first = 0;
  #held = 0;
  /** Bytes of the first that have been written. */
  #done = 0;
  #taking = false;
  /** The stream has taken nothing for PATIENCE_US. */
  #stuck = false;
  #writing = false;

  /** Bytes of the stream not yet handed on: [#from, #to). */
  #from = 0;
  #to = 0;
  #reading = false;
  #giving = 0;
  /** Frames that did not get through: too odd to be finished, or too many for a stream that takes none. */
  dropped = 0;

  /**
   * @param segment bytes of payload a segment has at least: more than a guest asks for spares work where the other side
   * takes frames of any size
   * @param lost the stream has ended, and its descriptor is not used any more
   */
  constructor(vif: number, segment: number, control: Control, lost: () => void) {
    this.#vif = vif;
    this.#shortest = segment;
    this.#control = control;
    this.#lost = lost;
    const { lo, hi, i32, free } = allocate(ARENA_BYTES);
    this.#arena = arenaOver(i32.buffer, hi * HIGH + (lo >>> 0));
    this.#free = free;
    this.#segmenter = new Segmenter(this.#arena.u8);
    this.#bell = new Doorbell(this.#uring, control.fd, 0, Kind.BELL);
  }

  /** Whether somebody is there to take what the stream brings. */
  set carrier(on: boolean) {
    this.#carrier = on;
  }

  /** The stream from now on. The one before has been reported lost, or there was none. */
  attach(fd: number): void {
    this.#stream = fd;
    this.#ending = false;
    this.#from = this.#to = this.#done = 0;
    // Where the frame goes that is being waited for.
    this.#first = (this.#first + this.#held) % SLOTS;
    this.#held = 0;
    this.#stuck = false;
  }

  /** Runs until the main thread wants something. */
  run(): void {
    while (!this.#control.wanted()) {
      this.#bell.arm();
      this.#begin();
      if (this.#control.wanted()) break;
      this.#uring.enter(1, this.#held === SLOTS && !this.#stuck ? PATIENCE_US : -1);
      if (this.#reap() === 0 && this.#held === SLOTS) this.#stuck = true;
    }
  }

  /** Gives memory back. The descriptors are whoever's they were. */
  close(): void {
    this.#uring.close();
    this.#free();
  }

  /** Begins whatever can be begun; one read and one write each way at a time. */
  #begin(): void {
    if (this.#ending) this.#end();
    if (!this.#taking && (this.#held < SLOTS || this.#stuck)) this.#take();
    if (this.#stream < 0 || this.#ending) return;
    if (!this.#writing && this.#held > 0) this.#write();
    if (this.#giving > 0 || this.#reading || this.#give()) return;
    if (this.#ending) this.#end();
    else this.#read();
  }

  #end(): void {
    if (this.#writing || this.#reading || this.#giving > 0) return;
    this.#stream = -1;
    this.#ending = false;
    this.#lost();
  }

  #take(): void {
    const slot = this.#held === SLOTS ? SLOTS : (this.#first + this.#held) % SLOTS;
    this.#push(UringOp.READ, 0, this.#vif, slot * SLOT_BYTES, SLOT_BYTES, slot, Kind.TAKE);
    this.#taking = true;
  }

  /** A frame of the vif, with its header. */
  #taken(slot: number, result: number): void {
    this.#taking = false;
    if (this.#stream < 0 || this.#ending) return;
    let place = slot;
    if (slot === SLOTS && this.#held < SLOTS) {
      // Room has been made while it was on its way.
      place = (this.#first + this.#held) % SLOTS;
      this.#arena.u8.copyWithin(place * SLOT_BYTES, slot * SLOT_BYTES, slot * SLOT_BYTES + result);
    }
    const bytes = place === SLOTS ? 0 : this.#finish(place, place * SLOT_BYTES, result - VnetHeader.SIZE);
    if (bytes === 0) {
      this.dropped++;
      return;
    }
    this.#lengths[place] = bytes;
    this.#held++;
  }

  /** Does what the header of the frame at byte `at` leaves to the link. Returns bytes for the stream; 0 for none. */
  #finish(slot: number, at: number, length: number): number {
    const { view } = this.#arena;
    const frame = at + VnetHeader.SIZE;
    if (length < MIN_FRAME) return 0;
    const gsoType = view.getUint8(at + VnetHeader.gso_type) & ~VnetGso.ECN;
    if (gsoType !== VnetGso.NONE) {
      const size = Math.max(view.getUint16(at + VnetHeader.gso_size, true), this.#shortest);
      const cut = (this.#starts[slot] = CUT_AT + slot * CUT_BYTES);
      return this.#segmenter.cut(frame, length, gsoType, size, cut, CUT_BYTES, PREFIX);
    }
    if ((view.getUint8(at + VnetHeader.flags) & VnetFlag.NEEDS_CSUM) !== 0) {
      const start = view.getUint16(at + VnetHeader.csum_start, true);
      const offset = view.getUint16(at + VnetHeader.csum_offset, true);
      if (!completeChecksum(view, frame, length, start, offset)) return 0;
    }
    // The length takes the end of the header's place.
    this.#starts[slot] = frame - PREFIX;
    view.setUint32(frame - PREFIX, length);
    return length + PREFIX;
  }

  #write(): void {
    const { hva } = this.#arena;
    for (let i = 0; i < this.#held; i++) {
      const slot = (this.#first + i) % SLOTS;
      const skip = i === 0 ? this.#done : 0;
      putIovec(this.#arena, OUT_IOVECS, i, hva + this.#starts[slot]! + skip, this.#lengths[slot]! - skip);
    }
    this.#push(UringOp.WRITEV, 0, this.#stream, OUT_IOVECS, this.#held, 0, Kind.WRITE);
    this.#writing = true;
  }

  #written(result: number): void {
    this.#writing = false;
    this.#stuck = false;
    if (result <= 0) {
      this.#ending = true;
      return;
    }
    this.#done += result;
    while (this.#held > 0 && this.#done >= this.#lengths[this.#first]!) {
      this.#done -= this.#lengths[this.#first]!;
      this.#first = (this.#first + 1) % SLOTS;
      this.#held--;
    }
  }

  #read(): void {
    if (this.#from > 0) {
      this.#arena.u8.copyWithin(IN_AT, IN_AT + this.#from, IN_AT + this.#to);
      this.#to -= this.#from;
      this.#from = 0;
    }
    this.#push(UringOp.READ, 0, this.#stream, IN_AT + this.#to, IN_BYTES - this.#to, 0, Kind.READ);
    this.#reading = true;
  }

  /** Hands complete frames to the vif, in order. False when there are none. */
  #give(): boolean {
    const { view, hva } = this.#arena;
    let count = 0;
    while (count < CHAIN && this.#to - this.#from >= PREFIX) {
      const length = view.getUint32(IN_AT + this.#from);
      if (length > MAX_FRAME) {
        this.#ending = true;
        break;
      }
      if (this.#to - this.#from < PREFIX + length) break;
      const at = IN_AT + this.#from + PREFIX;
      this.#from += PREFIX + length;
      if (!this.#carrier || length < MIN_FRAME) continue;
      putIovec(this.#arena, IN_IOVECS, count * 2, hva + EMPTY_HEADER, VnetHeader.SIZE);
      putIovec(this.#arena, IN_IOVECS, count * 2 + 1, hva + at, length);
      count++;
    }
    for (let i = 0; i < count; i++) {
      this.#push(UringOp.WRITEV, i < count - 1 ? IO_LINK : 0, this.#vif, IN_IOVECS + i * 32, 2, 0, Kind.GIVE);
    }
    this.#giving = count;
    return count > 0;
  }

  /** Takes completions; returns how many. */
  #reap(): number {
    const uring = this.#uring;
    const count = uring.completions();
    for (let i = 0; i < count; i++) {
      const result = uring.result(i);
      switch (uring.userHi(i)) {
        case Kind.TAKE:
          this.#taken(uring.userLo(i), result);
          break;
        case Kind.WRITE:
          this.#written(result);
          break;
        case Kind.READ:
          this.#reading = false;
          if (result <= 0) this.#ending = true;
          else this.#to += result;
          break;
        case Kind.GIVE:
          this.#giving--;
          break;
        case Kind.BELL:
          this.#bell.completed(uring.flags(i), result);
          break;
      }
    }
    uring.consume(count);
    return count;
  }

  /** @param at byte of the arena; `length` is bytes, or iovecs of a vectored write */
  #push(opcode: number, flags: number, fd: number, at: number, length: number, userLo: number, userHi: number): void {
    const address = this.#arena.hva + at;
    this.#uring.push(opcode, flags, fd, -1, -1, address | 0, (address / HIGH) | 0, length, 0, userLo, userHi);
  }
}
