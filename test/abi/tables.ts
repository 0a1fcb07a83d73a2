/** Every table and constant of shim/abi, registered by importing every file there. */
import { readdirSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { constantGroups, type ConstantsInfo } from '../../shim/abi/constants.js';
import { layouts, type StructInfo } from '../../shim/abi/struct.js';

const folder = fileURLToPath(new URL('../../shim/abi/', import.meta.url));

export async function allTables(): Promise<{
  readonly layouts: readonly StructInfo[];
  readonly constants: readonly ConstantsInfo[];
}> {
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    if (name.endsWith('.js')) await import(pathToFileURL(`${folder}${name}`).href);
  }
  return { layouts, constants: constantGroups };
}

/** Groups by key, in order of first appearance. */
export function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group === undefined) groups.set(key(item), [item]);
    else group.push(item);
  }
  return groups;
}
