/** The manifest: which guest images and lab hosts can be built, from what, and which guests the guest tests boot. */
import { readFileSync } from 'node:fs';
import { parse } from 'smol-toml';
import { z } from 'zod';
import { OperatorError } from '../shim/observe/errors.js';
import { projectPath } from './paths.js';

const Image = z.strictObject({
  title: z.string(),
  /** Debian suite the packages come from. */
  suite: z.string(),
  /** Debian's name of the architecture; left out: this machine's. */
  architecture: z.string().optional(),
  /** Shell script beside the manifest, called by mmdebstrap as `recipe PHASE ROOT` for `essential` and `customize`. */
  recipe: z.string(),
  /** Size of the root file system in MiB, as mke2fs takes it: `1200M`; the file is sparse. */
  size: z.string().regex(/^\d+[MG]$/),
  packages: z.array(z.string()).min(1),
  /** dpkg path-exclude globs: what the image can do without. */
  exclude: z.array(z.string()).default([]),
});

const Row = z.strictObject({
  title: z.string(),
  /** Entry of `guests` that it boots. */
  image: z.string(),
  /** What `uname -r`, or GRUB's version, must begin with. */
  kernel: z.string(),
  /**
   * `kernel`: QEMU loads the bzImage and initrd of the image. `pvh`: it enters the image's ELF kernel by its PVH note. `bios`,
   * `uefi`: the machine's firmware reads an emulated disk, which has the same bytes as the PV disk. `pvh-grub`: QEMU enters the
   * image's GRUB by its PVH note.
   */
  boot: z.enum(['kernel', 'pvh', 'bios', 'uefi', 'pvh-grub']).default('kernel'),
  /** Machine types of QEMU: a row of the matrix for each. */
  machines: z.array(z.enum(['pc', 'q35'])).min(1),
  /** Lab hosts it is meant for: a row for each. */
  hosts: z.array(z.string()).min(1),
  /** What the lab host's software CPU is to do without: `-smap,-smep`. */
  'lab-cpu': z.string().regex(/^[-+,a-z0-9]*$/).default(''),
  vcpus: z.int().min(1).default(2),
  /** MiB. */
  memory: z.int().min(64).default(512),
  /** What is done with it, see test/guest/matrix/courses.ts. */
  course: z.string(),
  /** The steps of the course it must show; all of them when left out. */
  steps: z.array(z.string()).min(1).optional(),
  /** Seconds of the step `stress`, for courses that have it. */
  stress: z.int().min(1).default(60),
  /** Part of `npm test`. */
  usual: z.boolean().default(false),
  /** How long it may take, boot and all. */
  minutes: z.number().positive().default(10),
});

const Manifest = z.strictObject({
  hosts: z.record(z.string(), Image),
  guests: z.record(z.string(), Image),
  matrix: z.record(z.string(), Row),
});

export type Manifest = z.infer<typeof Manifest>;
export type MatrixEntry = z.infer<typeof Row>;
export type ImageKind = 'hosts' | 'guests';
export interface ImageSpec extends z.infer<typeof Image> {
  readonly kind: ImageKind;
  readonly name: string;
}

/** Reads `vm-images/manifest.toml`. */
export function loadManifest(): Manifest {
  return parseManifest(readFileSync(projectPath('vm-images/manifest.toml'), 'utf8'));
}

/** @throws OperatorError MANIFEST with the first thing that is wrong */
export function parseManifest(text: string): Manifest {
  let content: unknown;
  try {
    content = parse(text);
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    throw bad(reason!);
  }
  const { data, error } = Manifest.safeParse(content);
  if (data === undefined) {
    const [issue] = error.issues;
    throw bad(`${issue!.path.join('.')}: ${issue!.message}`);
  }
  for (const [name, { image, hosts }] of Object.entries(data.matrix)) {
    if (!Object.hasOwn(data.guests, image)) throw bad(`matrix.${name}: there is no guests.${image}`);
    const unknown = hosts.find((host) => !Object.hasOwn(data.hosts, host));
    if (unknown !== undefined) throw bad(`matrix.${name}: there is no hosts.${unknown}`);
  }
  return data;
}

const bad = (what: string): OperatorError => new OperatorError('MANIFEST', `vm-images/manifest.toml: ${what}`, 'correct it');

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
