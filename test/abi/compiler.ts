/** The C compiler as an oracle: constant expressions over Xen's public headers, evaluated at compile time. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type Machine = 'x86_64' | 'x86_32';

const INCLUDE = process.env['XEN_INCLUDE'] ?? '/usr/include';

/**
 * Xen 4.14's, which every header since understands. From 4.19's on, variable-length arrays have no element that could be
 * measured (xen/io/ring.h, XENPV_FLEX_ARRAY_DIM).
 */
const INTERFACE_VERSION = '0x00040e00';

/** Freestanding: the 32-bit ABI needs no 32-bit C library then, only the compiler's own stdint.h. */
const FLAGS = ['-std=gnu11', '-ffreestanding', '-fno-pic', '-w', '-g', '-gdwarf-4', '-c', `-I${INCLUDE}`];

/** Why the oracle cannot be asked on this machine, or undefined. */
export function unavailable(): string | undefined {
  if (!existsSync(join(INCLUDE, 'xen/xen.h'))) return `no Xen headers in ${INCLUDE}/xen: install libxen-dev`;
  for (const tool of ['cc', 'objcopy', 'readelf']) {
    try {
      execFileSync(tool, ['--version'], { stdio: 'ignore' });
    } catch {
      return `no ${tool}: install gcc and binutils`;
    }
  }
  return undefined;
}

/** What a translation unit says, in the order of `expressions`, and its debug information as readelf prints it. */
export interface Compiled {
  readonly values: readonly bigint[];
  readonly debugInfo: string;
}

/** A constant expression, and what to call it where the compiler complains. */
export interface Expression {
  readonly name: string;
  readonly c: string;
}

/**
 * Compiles `declarations` and evaluates the expressions as 64-bit integers. A name the headers do not have throws an
 * Error with the compiler's words.
 */
export function compile(
  machine: Machine,
  headers: readonly string[],
  declarations: readonly string[],
  expressions: readonly Expression[],
): Compiled {
  const directory = mkdtempSync(join(tmpdir(), 'xenshim-abi-'));
  const at = (name: string): string => join(directory, name);
  try {
    writeFileSync(at('oracle.c'), source(headers, declarations, expressions));
    const width = machine === 'x86_64' ? '-m64' : '-m32';
    try {
      execFileSync('cc', [...FLAGS, width, '-o', at('oracle.o'), at('oracle.c')], { stdio: 'pipe' });
    } catch (error) {
      const said = String((error as { stderr?: Buffer }).stderr ?? error);
      throw new Error(said.split('\n').filter((line) => line.includes('error')).join('\n') || said);
    }
    execFileSync('objcopy', ['-O', 'binary', '--only-section=.oracle', at('oracle.o'), at('oracle.bin')]);
    const bytes = readFileSync(at('oracle.bin'));
    const values = expressions.map((_, i) => bytes.readBigInt64LE(i * 8));
    const debugInfo = execFileSync('readelf', ['--debug-dump=info', at('oracle.o')], {
      encoding: 'utf8',
      maxBuffer: 64 * 2 ** 20,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return { values, debugInfo };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function source(
  headers: readonly string[],
  declarations: readonly string[],
  expressions: readonly Expression[],
): string {
  const answers = expressions.map(({ name, c }) => `#line 1 ${JSON.stringify(name)}\n  (long long)(${c}),`);
  return [
    '#include <stddef.h>',
    '#include <stdint.h>',
    `#define __XEN_INTERFACE_VERSION__ ${INTERFACE_VERSION}`,
    ...headers.map((header) => `#include <xen/${header}>`),
    '#define IS_SIGNED(x) _Generic((x), signed char: 1, short: 1, int: 1, long: 1, long long: 1, default: 0)',
    ...declarations,
    'const long long oracle[] __attribute__((section(".oracle"), used)) = {',
    ...answers,
    '};',
    '',
  ].join('\n');
}
