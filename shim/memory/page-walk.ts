/**
 * The guest's own page tables, as its processor would walk them (Intel SDM volume 3, chapter 4): where a guest-virtual
 * address of a hypercall's arguments is in physical memory. Reads only; accessed and dirty bits stay as they are.
 */
import type { GuestMemory } from './guest-memory.js';

/** Control registers of the vCPU. */
export interface PagingRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

const CR0_WP = 1n << 16n;
const CR0_PG = 1n << 31n;
const CR4_PSE = 1n << 4n;
const CR4_PAE = 1n << 5n;
const CR4_LA57 = 1n << 12n;
const EFER_LMA = 1n << 10n;

const PRESENT = 1;
const WRITABLE = 2;
const USER = 4;
/** In a directory entry: it maps a large page. */
const LARGE = 1 << 7;

/** Bits 12…51 of a 64-bit entry. */
const FRAME_MASK = 0x000f_ffff_ffff_f000n;
/** GuestMemory takes addresses as doubles; nothing lies beyond this. */
const MAX_GPA = 2n ** 52n;

const scratch = new Uint8Array(8);
const scratchView = new DataView(scratch.buffer);

/**
 * Translates a guest-virtual address for an access of the given kind.
 * @param write checks the R/W bits, at supervisor level only under CR0.WP
 * @param user checks the U/S bits
 * @returns the guest-physical address, or undefined where the processor would fault or a table is not RAM. The address
 *   itself need not be RAM.
 */
export function translate(
  memory: GuestMemory,
  registers: PagingRegisters,
  va: bigint,
  write: boolean,
  user: boolean,
): number | undefined {
  const { cr0, cr3, cr4, efer } = registers;
  const paging = (cr0 & CR0_PG) !== 0n;
  const long = paging && (efer & EFER_LMA) !== 0n;
  if (!long && (va < 0n || va >= 1n << 32n)) return undefined;
  if (!paging) return Number(va);
  // What every level must have for the access.
  let needed = PRESENT;
  if (user) needed |= USER;
  if (write && (user || (cr0 & CR0_WP) !== 0n)) needed |= WRITABLE;
  if (long) {
    const levels = (cr4 & CR4_LA57) !== 0n ? 5 : 4;
    if (!isCanonical(va, levels)) return undefined;
    return walk64(memory, cr3 & FRAME_MASK, levels, va, needed);
  }
  if ((cr4 & CR4_PAE) !== 0n) return walkPae(memory, cr3, va, needed);
  return walk32(memory, cr3, va, needed, (cr4 & CR4_PSE) !== 0n);
}

/** Bits above the translated ones must all equal its highest. */
function isCanonical(va: bigint, levels: number): boolean {
  const bits = 12 + 9 * levels;
  return BigInt.asUintN(64, BigInt.asIntN(bits, va)) === BigInt.asUintN(64, va);
}

function entry64(memory: GuestMemory, gpa: bigint): bigint | undefined {
  if (gpa >= MAX_GPA || !memory.read(Number(gpa), scratch, 8)) return undefined;
  return scratchView.getBigUint64(0, true);
}

/** `levels` levels of 512 entries from `table` down; large pages at the second and third from below. */
function walk64(memory: GuestMemory, table: bigint, levels: number, va: bigint, needed: number): number | undefined {
  for (let level = levels; level >= 1; level--) {
    const shift = BigInt(12 + 9 * (level - 1));
    const entry = entry64(memory, table + ((va >> shift) & 0x1ffn) * 8n);
    if (entry === undefined) return undefined;
    const flags = Number(entry & 0xfffn);
    if ((flags & needed) !== needed) return undefined;
    const large = level > 1 && (flags & LARGE) !== 0;
    // PS is reserved above the third level: a fault.
    if (large && level > 3) return undefined;
    if (large || level === 1) {
      const inside = (1n << shift) - 1n;
      return Number((entry & FRAME_MASK & ~inside) | (va & inside));
    }
    table = entry & FRAME_MASK;
  }
  return undefined;
}

/** Three levels: four directory pointers, which have no access bits of their own, then two levels of 512. */
function walkPae(memory: GuestMemory, cr3: bigint, va: bigint, needed: number): number | undefined {
  const pointer = entry64(memory, (cr3 & 0xffff_ffe0n) + (va >> 30n) * 8n);
  if (pointer === undefined || (pointer & 1n) === 0n) return undefined;
  return walk64(memory, pointer & FRAME_MASK, 2, va, needed);
}

/** Two levels of 1024 32-bit entries; with CR4.PSE 4 MiB pages, whose bits 13…20 are address bits 32…39 (PSE-36). */
function walk32(memory: GuestMemory, cr3: bigint, va: bigint, needed: number, pse: boolean): number | undefined {
  const address = Number(va);
  const directory = entry32(memory, Number(cr3 & 0xffff_f000n) + (address >>> 22) * 4);
  if (directory === undefined || (directory & needed) !== needed) return undefined;
  if (pse && (directory & LARGE) !== 0) {
    const high = (directory >>> 13) & 0xff;
    return high * 2 ** 32 + ((directory & 0xffc0_0000) >>> 0) + (address & 0x3f_ffff);
  }
  const entry = entry32(memory, ((directory & 0xffff_f000) >>> 0) + ((address >>> 12) & 0x3ff) * 4);
  if (entry === undefined || (entry & needed) !== needed) return undefined;
  return ((entry & 0xffff_f000) >>> 0) + (address & 0xfff);
}

function entry32(memory: GuestMemory, gpa: number): number | undefined {
  return memory.read(gpa, scratch, 4) ? scratchView.getUint32(0, true) : undefined;
}
