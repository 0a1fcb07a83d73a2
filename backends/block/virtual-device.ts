/** Virtual device numbers of disks (docs/misc/vbd-interface.txt of Xen): what `xvda` is to a frontend. */
const XVD_MAJOR = 202;
/** Disks with 16 minors under the old scheme. */
const CLASSIC_DISKS = 16;
/** Bit that marks the extended scheme, with 256 minors a disk. */
const EXTENDED = 1 << 28;
/** Disks the extended scheme can number. */
export const MAX_DISKS = 1 << 20;

export interface VirtualDevice {
  /** `xvda` … `xvdz`, `xvdaa` … */
  readonly name: string;
  readonly number: number;
}

/** The whole disk of an index: 0 = xvda = 51712. */
export function virtualDevice(index: number): VirtualDevice {
  if (!(Number.isInteger(index) && index >= 0 && index < MAX_DISKS)) throw new RangeError(`no disk ${index}`);
  const number = index < CLASSIC_DISKS ? XVD_MAJOR * 256 + index * 16 : EXTENDED | (index << 8);
  let letters = '';
  for (let rest = index; rest >= 0; rest = Math.floor(rest / 26) - 1) {
    letters = String.fromCharCode(97 + (rest % 26)) + letters;
  }
  return { name: `xvd${letters}`, number };
}

/** The index of a name, or undefined if it is not that of a whole disk. */
export function diskIndex(name: string): number | undefined {
  const letters = /^xvd([a-z]{1,5})$/.exec(name)?.[1];
  if (letters === undefined) return undefined;
  let index = -1;
  for (const letter of letters) index = (index + 1) * 26 + (letter.charCodeAt(0) - 97);
  return index < MAX_DISKS ? index : undefined;
}
