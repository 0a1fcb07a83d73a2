/** Batches of reads and writes that the calling thread does itself, one native call for all of them. */
import { native } from '../../kvm/native.js';
import type { NativeInlineFile } from '../../kvm/native.js';

/** What an entry does (kvm/addon/inline_file.cc). */
export const InlineOp = Object.freeze({ READ: 0, WRITE: 1, SYNC: 2, PUNCH: 3 } as const);

const ENTRY_WORDS_SHIFT = 3;
const RESULT = 7;

export class InlineFile {
  private readonly native: NativeInlineFile;
  private readonly words: Int32Array;

  /** @param fd stays the caller's, and open */
  constructor(fd: number, entries: number) {
    this.native = new native.InlineFile(fd, entries);
    this.words = new Int32Array(this.native.entries);
  }

  /**
   * Fills entry `at` in; 64-bit fields come as two words.
   * @param buffers iovecs at the address; 0 = the data itself is there, `length` bytes. PUNCH: the address is the length
   */
  set(
    at: number, op: number, buffers: number, offsetLo: number, offsetHi: number,
    addressLo: number, addressHi: number, length: number,
  ): void {
    const { words } = this;
    const word = at << ENTRY_WORDS_SHIFT;
    words[word] = op;
    words[word + 1] = buffers;
    words[word + 2] = offsetLo;
    words[word + 3] = offsetHi;
    words[word + 4] = addressLo;
    words[word + 5] = addressHi;
    words[word + 6] = length;
  }

  /** Carries out `count` entries from `first` on. */
  run(first: number, count: number): void {
    this.native.run(first, count);
  }

  /** Bytes moved (0 for SYNC and PUNCH) or a negative Linux errno. */
  result(at: number): number {
    return this.words[(at << ENTRY_WORDS_SHIFT) + RESULT]!;
  }
}

/** linux/magic.h */
const TMPFS_MAGIC = 0x0102_1994;
const EXT4_SUPER_MAGIC = 0xef53;

/** Whether every access to the file is a copy in memory, which nothing can delay: tmpfs. */
export const inMemory = (fd: number): boolean => native.fileSystemType(fd) === TMPFS_MAGIC;

/** Whether io_uring hands every buffered write of the file to a thread of the kernel (no FMODE_NOWAIT for them). */
export const puntsWrites = (fd: number): boolean => native.fileSystemType(fd) === EXT4_SUPER_MAGIC;
