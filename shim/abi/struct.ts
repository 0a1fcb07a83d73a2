/**
 * Layout tables. A structure of Xen's public interface is a frozen object whose properties are byte offsets, so that
 * hot code reads `view.getUint32(at + BlkifRequest64.sector, true)` with nothing in between. Sizes and signedness are
 * kept beside it for the C oracle (test/abi), which compares every table with the compiler's view of the headers.
 */

export interface Field {
  /** Byte offset within the structure. */
  readonly at: number;
  /** Size in bytes. */
  readonly size: number;
  readonly signed: boolean;
}

/** Which C ABI the table describes; `any` means both are the same. */
export type Abi = 'x86_64' | 'x86_32' | 'any';

export interface StructInfo {
  /** Name in the header: `struct vcpu_info`, `vcpu_info_t`. */
  readonly c: string;
  /** Header under `xen/`, e.g. `xen.h`, `io/blkif.h`. */
  readonly header: string;
  readonly abi: Abi;
  /** Size in bytes. */
  readonly size: number;
  /** Key = C member designator as `offsetof` takes it, unless `members` renames it. */
  readonly fields: Readonly<Record<string, Field>>;
  /** TypeScript name → C member designator, where they differ (`cmd` → `u.cmd`). */
  readonly members: Readonly<Record<string, string>>;
}

export type Layout<T> = { readonly [K in keyof T]: number } & { readonly SIZE: number };

const unsigned = (size: number) => (at: number): Field => ({ at, size, signed: false });
const signed = (size: number) => (at: number): Field => ({ at, size, signed: true });

export const u8 = unsigned(1);
export const u16 = unsigned(2);
export const u32 = unsigned(4);
export const u64 = unsigned(8);
export const s8 = signed(1);
export const s16 = signed(2);
export const s32 = signed(4);
export const s64 = signed(8);
/** An array or nested structure of `size` bytes. */
export const bytes = (at: number, size: number): Field => ({ at, size, signed: false });

const tables: StructInfo[] = [];

/** Every table defined so far: what the oracle walks. */
export const layouts: readonly StructInfo[] = tables;

/** Defines a layout table and enters it for the oracle. */
export function struct<T extends Record<string, Field>>(
  info: { c: string; header: string; abi: Abi; size: number; members?: Record<string, string> },
  fields: T,
): Layout<T> {
  tables.push(Object.freeze({ ...info, members: info.members ?? {}, fields }));
  const offsets: Record<string, number> = { SIZE: info.size };
  for (const [name, field] of Object.entries(fields)) offsets[name] = field.at;
  return Object.freeze(offsets) as Layout<T>;
}
