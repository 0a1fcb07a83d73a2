/** Where things are: the project's own files, and the cache that images are kept in. */
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
