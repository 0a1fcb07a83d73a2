/**
 * Virtual device numbers of disks (docs/man/xen-vbd-interface.7 of Xen): what `xvda` is to a frontend. Names of IDE and
 * SCSI disks are only numbers of their majors here; Linux shows such disks as xvda and so on.
 */
const IDE_MAJORS = [3, 22] as const;
const SCSI_MAJOR = 8;
const XVD_MAJOR = 202;
/** Disks with 16 minors under the old scheme. */
const CLASSIC_DISKS = 16;
/** IDE disks have 64 minors, two to a major. */
const IDE_DISKS = 4;
/** Bit that marks the extended scheme, with 256 minors a disk. */
const EXTENDED = 1 << 28;
/** Disks the extended scheme can number. */
export const MAX_DISKS = 1 << 20;

export interface VirtualDevice {
  /** `xvda` … `xvdz`, `xvdaa` …, or as the operator named it: `hda`, `sdb`. */
  readonly name: string;
  readonly number: number;
}

/** The whole disk of an index: 0 = xvda = 51712. */
export function virtualDevice(index: number): VirtualDevice {
  if (!(Number.isInteger(index) && index >= 0 && index < MAX_DISKS)) throw new RangeError(`no disk ${index}`);
  let letters = '';
  for (let rest = index; rest >= 0; rest = Math.floor(rest / 26) - 1) {
    letters = String.fromCharCode(97 + (rest % 26)) + letters;
  }
  return { name: `xvd${letters}`, number: xvdNumber(index) };
}

/** The index of a name such as xvda, or undefined if it is not that of a whole disk. */
export function diskIndex(name: string): number | undefined {
  const letters = /^xvd([a-z]{1,5})$/.exec(name)?.[1];
  return letters === undefined ? undefined : below(MAX_DISKS, letters);
}

/** The number of a whole disk named as the toolstack takes it: xvda, hda, sda. Undefined if it is no such name. */
export function diskNumber(name: string): number | undefined {
  const index = diskIndex(name);
  if (index !== undefined) return xvdNumber(index);
  const [, kind, letters] = /^(hd|sd)([a-z])$/.exec(name) ?? [];
  if (letters === undefined) return undefined;
  const disk = below(kind === 'hd' ? IDE_DISKS : CLASSIC_DISKS, letters);
  if (disk === undefined) return undefined;
  return kind === 'hd' ? (IDE_MAJORS[disk >> 1]! << 8) | ((disk & 1) << 6) : (SCSI_MAJOR << 8) | (disk << 4);
}

/** The first disk of the xvd series whose number is not among those taken. */
export function freeDevice(taken: readonly VirtualDevice[]): VirtualDevice {
  const numbers = new Set(taken.map(({ number }) => number));
  for (let index = 0; ; index++) {
    const device = virtualDevice(index);
    if (!numbers.has(device.number)) return device;
  }
}

const xvdNumber = (index: number): number =>
  index < CLASSIC_DISKS ? XVD_MAJOR * 256 + index * 16 : EXTENDED | (index << 8);

/** Letters as a number from 0, in the way of spreadsheet columns. */
function below(limit: number, letters: string): number | undefined {
  let index = -1;
  for (const letter of letters) index = (index + 1) * 26 + (letter.charCodeAt(0) - 97);
  return index < limit ? index : undefined;
}
