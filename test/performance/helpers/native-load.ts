/** Native load generators: compiled where the benchmark runs, and run on a core of their own. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the source tree, seen from dist/test/performance/helpers. */
export const sourceRoot = fileURLToPath(new URL('../../../../', import.meta.url));

/** What a load says at its end. */
export interface LoadResult {
  readonly iops: number;
  readonly p50_us: number;
  readonly p99_us: number;
  /** Requests from beginning to end, those before the measurement included. */
  readonly total: number;
}

/** Compiles C files of the source tree into one program; returns its path. */
export function compile(...sources: string[]): string {
  const program = join(mkdtempSync(join(tmpdir(), 'xenshim-bench-')), 'load');
  const paths = sources.map((source) => join(sourceRoot, source));
  const { status, stderr } = spawnSync('cc', ['-O2', '-Wall', '-o', program, ...paths, '-lpthread'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cc ${sources.join(' ')}: ${stderr}`);
  return program;
}

/** Runs a command on a core; resolves with what it printed. */
export function runOn(
  core: number,
  command: readonly string[],
  options: { input?: string; fds?: readonly number[] } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('taskset', ['-c', String(core), ...command], {
      stdio: ['pipe', 'pipe', 'inherit', ...(options.fds ?? [])],
    });
    let output = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${command[0]} ended with ${code}`));
    });
    child.stdin!.end(options.input ?? '');
  });
}

/** Keeps this process, and every thread it starts from now on, on one core. */
export function stayOn(core: number): void {
  const { status } = spawnSync('taskset', ['-pc', String(core), String(process.pid)]);
  if (status !== 0) throw new Error('taskset (util-linux) does not work here');
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
