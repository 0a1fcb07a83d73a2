/** Builds an image from Debian packages with mmdebstrap, once, and keeps it in the cache. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { OperatorError } from '../shim/observe/errors.js';
import type { ImageSpec } from './manifest.js';
import { cachePath, markUsed, projectPath, pruneUnused } from './paths.js';
import { run } from './process.js';

/** What a built image consists of. */
export interface BuiltImage {
  readonly dir: string;
  /** Raw ext4 file system, no partition table. */
  readonly disk: string;
  readonly kernel: string;
  readonly initrd: string;
  /** Of a lab host: its QEMU and the libraries and firmware that go with it. */
  readonly emulator: string;
}

export type Progress = (line: string) => void;

/** The image of `spec`: from the cache, or built now (about 35 s). */
export async function builtImage(spec: ImageSpec, progress: Progress): Promise<BuiltImage> {
  const dir = cachePath('images', `${spec.kind}-${spec.name}-${imageKey(spec)}`);
  if (!existsSync(dir)) await build(spec, dir, progress);
  markUsed(dir);
  return { dir, disk: join(dir, 'disk.img'), kernel: join(dir, 'vmlinuz'), initrd: join(dir, 'initrd'), emulator: join(dir, 'emulator') };
}

/** Changes whenever the entry in the manifest or a recipe does. */
export function imageKey(spec: ImageSpec): string {
  const hash = createHash('sha256').update(JSON.stringify(spec));
  const recipe = dirname(projectPath('vm-images', spec.recipe));
  for (const file of readdirSync(recipe).sort()) hash.update(readFileSync(join(recipe, file)));
  return hash.digest('hex').slice(0, 12);
}

async function build(spec: ImageSpec, target: string, progress: Progress): Promise<void> {
  mkdirSync(dirname(target), { recursive: true });
  pruneUnused(dirname(target));
  const work = mkdtempSync(join(dirname(target), '.building-'));
  const title = `${basename(target)}: ${spec.title}`;
  const started = Date.now();
  progress(`building ${title} from Debian packages`);
  try {
    const log = join(work, 'build.log');
    const root = await installPackages(spec, work, log);
    await makeDisk(spec, work, root, log);
    rename(work, target);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    throw error;
  }
  progress(`built ${title} in ${((Date.now() - started) / 1000).toFixed(0)} s`);
}

/** Another process may have built the same image meanwhile: then its copy stays. */
function rename(work: string, target: string): void {
  if (existsSync(target)) rmSync(work, { recursive: true, force: true });
  else renameSync(work, target);
}

const trimmed = ['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*', '/usr/share/info/*'];

/** As root the packages go into a folder; without root into a tar file, whose owners fakeroot can restore. */
async function installPackages(spec: ImageSpec, work: string, log: string): Promise<string> {
  const asRoot = process.getuid?.() === 0;
  const root = join(work, asRoot ? 'root' : 'root.tar');
  const recipe = projectPath('vm-images', spec.recipe);
  const args = [
    `--mode=${asRoot ? 'root' : 'unshare'}`,
    `--format=${asRoot ? 'directory' : 'tar'}`,
    '--variant=minbase',
    `--include=${spec.packages.join(',')}`,
    ...(spec.architecture === undefined ? [] : [`--architectures=${spec.architecture}`]),
    '--aptopt=Acquire::Languages "none"',
    ...[...trimmed, ...spec.exclude].map((glob) => `--dpkgopt=path-exclude=${glob}`),
    `--essential-hook=sh '${recipe}' essential "$1"`,
    `--customize-hook=sh '${recipe}' customize "$1"`,
    spec.suite,
    root,
    process.env['XENSHIM_MIRROR'] ?? 'http://deb.debian.org/debian',
  ];
  const status = await run('mmdebstrap', args, { log, env: { OUT: work, SIZE: String(mebibytes(spec.size)) } });
  if (status !== 0) throw failed(spec, 'mmdebstrap', log);
  return root;
}

/**
 * mke2fs fills the file system itself: no loop device, no mount, no root needed. Where a recipe has left `head.img`, the disk
 * begins with it, and the file system stands behind it.
 */
async function makeDisk(spec: ImageSpec, work: string, root: string, log: string): Promise<void> {
  const disk = join(work, 'disk.img');
  const head = join(work, 'head.img');
  const options: string[] = [];
  if (existsSync(head)) {
    renameSync(head, disk);
    options.push('-E', `offset=${statSync(disk).size}`);
  }
  const make = (from: string): string[] => ['-q', '-F', '-t', 'ext4', '-L', 'root', ...options, '-d', from, disk, spec.size];
  const status = root.endsWith('.tar')
    ? await run('fakeroot', ['sh', '-ec', 'mkdir "$2"; tar -xf "$1" -C "$2"; shift 2; mke2fs "$@"', 'sh', root,
        join(work, 'root'), ...make(join(work, 'root'))], { log })
    : await run('mke2fs', make(root), { log });
  rmSync(join(work, 'root'), { recursive: true, force: true });
  rmSync(join(work, 'root.tar'), { force: true });
  if (status !== 0) throw failed(spec, 'mke2fs', log);
}

const mebibytes = (size: string): number => parseInt(size, 10) * (size.endsWith('G') ? 1024 : 1);

function failed(spec: ImageSpec, tool: string, log: string): OperatorError {
  const last = readFileSync(log, 'utf8').trim().split('\n').slice(-6).join(' | ');
  return new OperatorError(
    'IMAGE_BUILD_FAILED',
    `${tool} could not build ${spec.kind} "${spec.name}" (${last})`,
    'check that the Debian mirror is reachable (XENSHIM_MIRROR names another) and that the disk is not full',
  );
}
