/** Where things are: the project's own files, and the cache that images are kept in. */
import { readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** This file runs as dist/vm-images/paths.js. */
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** A path inside the project. */
export function projectPath(...parts: string[]): string {
  return join(root, ...parts);
}

/** A path inside the cache: `$XENSHIM_CACHE`, or `xenshim` in the user's cache folder. */
export function cachePath(...parts: string[]): string {
  const base = process.env['XENSHIM_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'xenshim');
  return join(base, ...parts);
}

const keepUnusedDays = 14;

/** Notes that a file or folder of the cache was used now. */
export function markUsed(path: string): void {
  const now = new Date();
  utimesSync(path, now, now);
}

/** Removes what nobody used for two weeks from a folder of the cache; several checkouts may share it. */
export function pruneUnused(dir: string): void {
  const limit = Date.now() - keepUnusedDays * 86_400_000;
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    if (statSync(path).mtimeMs < limit) rmSync(path, { recursive: true, force: true });
  }
}
