/**
 * Named numbers of Xen's public headers. The C oracle (test/abi) evaluates every name with the compiler and compares.
 *
 * Convention: key = the header's name without `prefix`, value = a number, or a bigint above 2^53; signed values as the
 * header has them (`GNTST_eagain` is -12). Names the headers do not have (our own numbers, inline magic) stay plain
 * objects: what is registered here must exist there. An enumerator or a macro does equally well.
 *
 *     export const Gntst = constants('grant_table.h', { okay: 0, bad_gntref: -3 }, 'GNTST_');
 */
export interface ConstantsInfo {
  /** Header under `xen/`. */
  readonly header: string;
  readonly prefix: string;
  readonly values: Readonly<Record<string, number | bigint>>;
}

const registered: ConstantsInfo[] = [];

/** Every group of constants defined so far: what the oracle walks. */
export const constantGroups: readonly ConstantsInfo[] = registered;

/** Freezes `values` and enters them for the oracle. */
export function constants<const T extends Record<string, number | bigint>>(
  header: string,
  values: T,
  prefix = '',
): Readonly<T> {
  const frozen = Object.freeze({ ...values });
  registered.push(Object.freeze({ header, prefix, values: frozen }));
  return frozen;
}
