/** This checkout as a disk for the lab: the compiled project, its native part and the packages it needs to run. */
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { projectPath } from '../paths.js';
import { run } from '../process.js';

const Lock = z.object({ packages: z.record(z.string(), z.object({ dev: z.boolean().optional() })) });

/** Not needed to run anything. */
const useless = /\.(map|md|o|d|ts|mts|cts|h|c|cc|gypi?|tsbuildinfo)$|\/(obj\.target|\.deps|\.bin)$/;

/**
 * Makes `work`/project.img, an ext4 file system with `dist`, `cli`, `kvm/build/Release`, `vm-images`, `package.json` and
 * those node_modules that package-lock.json does not mark as needed for development only. About 2 s.
 */
export async function projectDisk(work: string, log: string): Promise<string> {
  const tree = join(work, 'project');
  mkdirSync(tree, { recursive: true });
  for (const part of ['package.json', 'dist', 'cli', 'vm-images', 'kvm/build/Release', ...runtimePackages()]) {
    const from = projectPath(part);
    if (existsSync(from)) cpSync(realpathSync(from), join(tree, part), { recursive: true, filter: wanted });
  }
  const disk = join(work, 'project.img');
  const status = await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-O', '^has_journal', '-d', tree, disk, '512M'], { log });
  if (status !== 0) throw new Error(`mke2fs could not make the project's disk, see ${log}`);
  return disk;
}

function runtimePackages(): string[] {
  const lock = Lock.parse(JSON.parse(readFileSync(projectPath('package-lock.json'), 'utf8')));
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path.startsWith('node_modules/') && entry.dev !== true)
    .map(([path]) => path)
    .filter((path, _index, all) => !all.some((other) => path.startsWith(`${other}/`)));
}

function wanted(source: string): boolean {
  return !useless.test(source) || source.endsWith('/d.js');
}
