/**
 * What is inside an image: said by the operator, by the name's ending, or else raw. A head that looks like a container
 * never makes a raw image one: the guest writes that head, and a backing file named in it would show it the host's files.
 */
import { OperatorError } from '../../../shim/observe/errors.js';
import { readAligned } from '../direct.js';

/** Name endings to names of QEMU's format drivers. */
const ENDINGS: ReadonlyMap<string, string> = new Map([
  ['qcow2', 'qcow2'],
  ['vhd', 'vpc'],
  ['vpc', 'vpc'],
  ['vmdk', 'vmdk'],
  ['vdi', 'vdi'],
  ['vhdx', 'vhdx'],
  ['qed', 'qed'],
]);

/** Names operators use for QEMU's drivers. */
const ALIASES: ReadonlyMap<string, string> = new Map([['vhd', 'vpc']]);

/** Marks of containers: text and where it stands. */
const MARKS: readonly (readonly [format: string, at: number, text: string])[] = [
  ['qcow2', 0, 'QFI\xfb'],
  ['vpc', 0, 'conectix'],
  ['vmdk', 0, 'KDMV'],
  ['vmdk', 0, 'COWD'],
  ['vmdk', 0, '# Disk DescriptorFile'],
  ['vdi', 0x40, '\x7f\x10\xda\xbe'],
  ['vhdx', 0, 'vhdxfile'],
  ['qed', 0, 'QED\0'],
];
const HEAD_BYTES = 4096;

/** The format a name's ending stands for; undefined = raw. */
export function formatByName(path: string): string | undefined {
  const ending = /\.([^./]+)$/.exec(path)?.[1];
  return ending === undefined ? undefined : ENDINGS.get(ending.toLowerCase());
}

/** An operator's name of a format as QEMU has it. */
export const driverName = (format: string): string => ALIASES.get(format) ?? format;

/** The container a head looks like. */
export function formatByHead(head: Buffer): string | undefined {
  return MARKS.find(([, at, text]) => head.subarray(at, at + text.length).equals(Buffer.from(text, 'latin1')))?.[0];
}

/** A container handed to the guest as raw would be read as garbage and destroyed by the first write. */
export function refuseContainer(path: string, fd: number): void {
  const format = formatByHead(readAligned(fd, HEAD_BYTES));
  if (format === undefined) return;
  throw new OperatorError(
    'DISK_FORMAT',
    `disk ${path} is a ${format} image by its first bytes, and raw by its name`,
    `add ",format=${format}" to the disk, or ",format=raw" if a guest wrote those bytes onto its raw disk`,
  );
}
