import test from 'ava';
import fc from 'fast-check';
import { GuestMemory, PAGE_SIZE, ramWindow } from '../../../shim/memory/guest-memory.js';
import { translate, type PagingRegisters } from '../../../shim/memory/page-walk.js';

const PG = 1n << 31n;
const WP = 1n << 16n;
const PSE = 1n << 4n;
const PAE = 1n << 5n;
const LA57 = 1n << 12n;
const LMA = 1n << 10n;

const P = 1n;
const RW = 2n;
const US = 4n;
const PS = 1n << 7n;
const NX = 1n << 63n;
const ALL = P | RW | US;

/** 32 pages of RAM from 0. */
function ram(): { memory: GuestMemory; put64(gpa: number, entry: bigint): void; put32(gpa: number, entry: bigint): void } {
  const memory = new GuestMemory([ramWindow(0, new ArrayBuffer(32 * PAGE_SIZE), 2 ** 32)]);
  const { view } = memory.windows[0]!;
  return {
    memory,
    put64: (gpa, entry) => view.setBigUint64(gpa, entry, true),
    put32: (gpa, entry) => view.setUint32(gpa, Number(entry), true),
  };
}

const registers = (cr0: bigint, cr4: bigint, efer: bigint, cr3 = 0x1000n): PagingRegisters => ({ cr0, cr3, cr4, efer });
const long = registers(PG | WP, PAE, LMA);

/** Tables at 0x1000 (top), 0x2000 …: entry `index[i]` of each leads to the next with `flags[i]`. */
function chain(put: (gpa: number, entry: bigint) => void, indices: number[], last: bigint, flags: bigint[] = []): void {
  indices.forEach((index, i) => {
    const next = BigInt((i + 2) * PAGE_SIZE);
    put((i + 1) * PAGE_SIZE + index * 8, i === indices.length - 1 ? last : next | (flags[i] ?? ALL));
  });
}

test('without paging an address is its own, within 32 bits', (t) => {
  const { memory } = ram();
  t.is(translate(memory, registers(0n, 0n, 0n), 0xdead_b000n, true, false), 0xdead_b000);
  t.is(translate(memory, registers(0n, 0n, 0n), 1n << 32n, false, false), undefined);
});

test('four levels lead to a 4 KiB page, above 4 GiB too, NX or not', (t) => {
  const { memory, put64 } = ram();
  const va = 0xffff_8880_1234_5678n;
  chain(put64, [0x111, 0, 0x91, 0x145], 0x12_3456_7000n | ALL | NX);
  t.is(translate(memory, long, va, true, true), 0x12_3456_7678);
});

test('large pages of 2 MiB and 1 GiB end the walk early', (t) => {
  const two = ram();
  chain(two.put64, [0x111, 0, 0x91], 0x4000_0000n | ALL | PS | (1n << 12n));
  t.is(translate(two.memory, long, 0xffff_8880_1234_5678n, true, true), 0x4014_5678, 'the PAT bit is no address bit');
  const one = ram();
  chain(one.put64, [0x111, 0], 0x8_4000_0000n | ALL | PS);
  t.is(translate(one.memory, long, 0xffff_8880_1234_5678n, true, true), 0x8_5234_5678);
  const half = ram();
  chain(half.put64, [0x111], 0x4000n | ALL | PS);
  t.is(translate(half.memory, long, 0xffff_8880_1234_5678n, false, false), undefined, 'no 512 GiB pages');
});

test('five levels are walked under LA57, with its wider canonical range', (t) => {
  const { memory, put64 } = ram();
  const la57 = registers(PG | WP, PAE | LA57, LMA);
  const va = (0xffn << 56n) | (0x1abn << 48n) | 0x3000_0000_5008n;
  chain(put64, [0x1ab, 0x60, 0, 0, 5], 0x7000n | ALL);
  t.is(translate(memory, la57, va, false, false), 0x7008);
  t.is(translate(memory, long, va, false, false), undefined, 'not canonical with four levels');
});

test('an address that is not canonical is never translated', (t) => {
  const { memory, put64 } = ram();
  chain(put64, [0x100, 0, 0, 0], 0x7000n | ALL);
  t.is(translate(memory, long, 0xffff_8000_0000_0000n, false, false), 0x7000);
  for (const va of [0x0000_8000_0000_0000n, 0x8000_0000_0000n | (1n << 63n), 0xfffe_8000_0000_0000n]) {
    t.is(translate(memory, long, va, false, false), undefined, va.toString(16));
  }
});

test('every level must be present, and allow users and writers what they ask', (t) => {
  for (let weak = 0; weak < 4; weak++) {
    for (const missing of [P, RW, US]) {
      const { memory, put64 } = ram();
      const flags = [ALL, ALL, ALL, ALL].map((all, level) => (level === weak ? all & ~missing : all));
      chain(put64, [0, 0, 0, 1], 0x9000n | flags[3]!, flags);
      const at = (write: boolean, user: boolean, cr0 = PG | WP): number | undefined =>
        translate(memory, { ...long, cr0 }, 0x1010n, write, user);
      t.is(at(false, false), missing === P ? undefined : 0x9010);
      t.is(at(true, false), missing === US ? 0x9010 : undefined);
      t.is(at(true, false, PG), missing === P ? undefined : 0x9010, 'without CR0.WP the kernel writes anywhere');
      t.is(at(false, true), missing === RW ? 0x9010 : undefined);
      t.is(at(true, true, PG), undefined, 'but a user does not');
    }
  }
});

test('PAE: four pointers without access bits, then two levels or a 2 MiB page', (t) => {
  const { memory, put64 } = ram();
  const pae = registers(PG | WP, PAE, 0n, 0x1020n);
  put64(0x1020 + 3 * 8, 0x2000n | P);
  put64(0x2000 + 2 * 8, 0x3000n | ALL);
  put64(0x3000 + 4 * 8, 0x1_2345_6000n | ALL);
  put64(0x2000 + 3 * 8, 0x1_2340_0000n | ALL | PS);
  t.is(translate(memory, pae, 0xc040_4abcn, true, true), 0x1_2345_6abc);
  t.is(translate(memory, pae, 0xc071_2345n, true, true), 0x1_2351_2345);
  t.is(translate(memory, pae, 0x0040_4abcn, false, false), undefined);
  t.is(translate(memory, pae, 0x1_0000_0000n, false, false), undefined);
});

test('two levels of 32-bit entries, with 4 MiB pages only under CR4.PSE', (t) => {
  const { memory, put32 } = ram();
  const flat = registers(PG | WP, 0n, 0n);
  put32(0x1000 + 0x300 * 4, 0x2000n | ALL);
  put32(0x2000 + 5 * 4, 0xabcd_e000n | ALL);
  put32(0x1000 + 0x301 * 4, 0x0040_0000n | (3n << 13n) | ALL | PS);
  t.is(translate(memory, flat, 0xc000_5123n, true, true), 0xabcd_e123);
  t.is(translate(memory, registers(PG | WP, PSE, 0n), 0xc040_5123n, true, true), 3 * 2 ** 32 + 0x40_5123);
  t.is(translate(memory, flat, 0xc040_5123n, true, true), undefined, 'else the bit means nothing: a table that is no RAM');
  t.is(translate(memory, flat, 0xc080_0000n, false, false), undefined);
});

test('tables that are not in RAM, or point at themselves, end the walk', (t) => {
  const { memory, put64 } = ram();
  t.is(translate(memory, { ...long, cr3: 0xf_ffff_ffff_f000n }, 0n, false, false), undefined);
  put64(0x1000, 0xf_ffff_ffff_f000n | ALL);
  t.is(translate(memory, long, 0n, false, false), undefined);
  put64(0x1000, 0x1000n | ALL);
  t.is(translate(memory, long, 0x123n, true, true), 0x1123, 'a recursive table is legal');
});

test('no registers, tables or addresses make it throw', (t) => {
  const { memory } = ram();
  const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  // Half of the entries lead to a page of RAM: walks go deep.
  const entry = fc.oneof(
    word,
    fc.nat(31).map((page) => BigInt(page * PAGE_SIZE) | ALL),
  );
  fc.assert(
    fc.property(
      fc.record({ cr0: word, cr3: word, cr4: word, efer: word }),
      fc.array(entry, { minLength: 16, maxLength: 16 }),
      word,
      fc.boolean(),
      fc.boolean(),
      fc.nat(31),
      (regs, entries, va, write, user, page) => {
        const { view } = memory.windows[0]!;
        for (let i = 0; i < 512; i++) view.setBigUint64(page * PAGE_SIZE + i * 8, entries[i % 16]!, true);
        const gpa = translate(memory, { ...regs, cr3: BigInt(page * PAGE_SIZE) }, va, write, user);
        return gpa === undefined || (Number.isSafeInteger(gpa) && gpa >= 0);
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});
