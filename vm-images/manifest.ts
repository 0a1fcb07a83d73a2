/** The manifest: which guest images and lab hosts can be built, and from what. */
import { readFileSync } from 'node:fs';
import { parse } from 'smol-toml';
import { z } from 'zod';
import { OperatorError } from '../shim/observe/errors.js';
import { projectPath } from './paths.js';

const Image = z.strictObject({
  title: z.string(),
  /** Debian suite the packages come from. */
  suite: z.string(),
  /** Shell script beside the manifest, called by mmdebstrap as `recipe PHASE ROOT` for `essential` and `customize`. */
  recipe: z.string(),
  /** Size of the disk as mke2fs takes it; the file is sparse. */
  size: z.string(),
  packages: z.array(z.string()).min(1),
  /** dpkg path-exclude globs: what the image can do without. */
  exclude: z.array(z.string()).default([]),
});

const Manifest = z.strictObject({
  hosts: z.record(z.string(), Image),
  guests: z.record(z.string(), Image),
});

export type ImageKind = 'hosts' | 'guests';
export interface ImageSpec extends z.infer<typeof Image> {
  readonly kind: ImageKind;
  readonly name: string;
}

/** Reads `vm-images/manifest.toml`. */
export function loadManifest(): z.infer<typeof Manifest> {
  return Manifest.parse(parse(readFileSync(projectPath('vm-images/manifest.toml'), 'utf8')));
}

/** One entry of the manifest; OperatorError IMAGE_UNKNOWN if there is none of that name. */
export function imageSpec(kind: ImageKind, name: string): ImageSpec {
  const entries = loadManifest()[kind];
  const entry = entries[name];
  if (!entry) {
    const known = Object.keys(entries).join(', ');
    throw new OperatorError('IMAGE_UNKNOWN', `vm-images/manifest.toml has no ${kind} entry "${name}"`, `use ${known}`);
  }
  return { ...entry, kind, name };
}
