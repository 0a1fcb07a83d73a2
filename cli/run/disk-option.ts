/** `--disk FILE[,OPTION]…`, the same text wherever a disk is named. Pure: the host is not touched. */
import { diskNumber, type VirtualDevice } from '../../backends/block/virtual-device.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { words } from '../qemu/option-values.js';

/** Queues one disk may have: more in-flight requests than these rings hold no host gains from. */
const MAX_QUEUES = 8;

export interface DiskOption {
  readonly file: string;
  readonly readonly: boolean;
  readonly cdrom: boolean;
  /** `raw` or one of QEMU's formats; undefined = by the name's ending. */
  readonly format?: string;
  readonly removable?: true;
  /** Persistent grants are offered. */
  readonly persistent?: true;
  /** O_DIRECT: the host's page cache is left out. */
  readonly direct?: true;
  /** DISCARD is not offered. */
  readonly discard?: false;
  /** Bytes; undefined = the file's or device's own. */
  readonly sectorSize?: 512 | 4096;
  readonly queues?: number;
  /** Queues a thread serves; undefined = as `xenshim run --queues-per-worker` has it, or all. */
  readonly queuesPerWorker?: number;
  /** undefined = the first that is free. */
  readonly vdev?: VirtualDevice;
}

export const DISK_OPTIONS =
  'format=NAME, ro, cdrom, removable, persistent, direct, discard=off, sector-size=512|4096, queues=N, queues-per-worker=N, vdev=NAME';
const USE = `use FILE and, after commas, ${DISK_OPTIONS}`;

/** `,,` stands for a comma in a value; a disk described in JSON has its own commas. @throws OperatorError USAGE */
export function parseDisk(text: string): DiskOption {
  const [file, ...rest] = parts(text);
  const wrong = (what: string): OperatorError => new OperatorError('USAGE', `--disk ${text}: ${what}`, USE);
  if (file === '') throw new OperatorError('USAGE', `--disk '${text}' names no file`, USE);
  const option: { -readonly [K in keyof DiskOption]: DiskOption[K] } = { file, readonly: false, cdrom: false };
  for (const word of rest) {
    const equals = word.indexOf('=');
    const [key, value] = equals < 0 ? [word, undefined] : [word.slice(0, equals), word.slice(equals + 1)];
    switch (`${key}${value === undefined ? '' : '='}`) {
      case 'ro':
        option.readonly = true;
        break;
      case 'cdrom':
        option.cdrom = true;
        option.readonly = true;
        break;
      case 'format=':
        if (!/^[a-z][a-z0-9-]*$/.test(value!)) throw wrong(`format cannot be '${value!}'`);
        option.format = value!;
        break;
      case 'removable':
        option.removable = true;
        break;
      case 'persistent':
        option.persistent = true;
        break;
      case 'direct':
        option.direct = true;
        break;
      case 'discard=':
        if (value === 'off') option.discard = false;
        else if (value !== 'on') throw wrong(`discard cannot be '${value!}'`);
        break;
      case 'sector-size=':
        if (value !== '512' && value !== '4096') throw wrong(`sector-size cannot be '${value!}'`);
        option.sectorSize = value === '512' ? 512 : 4096;
        break;
      case 'queues=':
      case 'queues-per-worker=':
        if (!isQueues(value!)) throw wrong(`${key} is a number from 1 to ${MAX_QUEUES}`);
        option[key === 'queues' ? 'queues' : 'queuesPerWorker'] = Number(value);
        break;
      case 'vdev=':
        option.vdev = parseVdev(value!);
        break;
      default:
        throw wrong(`'${word}' is no disk option`);
    }
  }
  return option;
}

const isQueues = (text: string): boolean => /^[1-9]$/.test(text) && Number(text) <= MAX_QUEUES;

/** @throws OperatorError USAGE */
export function parseQueuesPerWorker(text: string): number {
  if (isQueues(text)) return Number(text);
  throw new OperatorError('USAGE', `--queues-per-worker cannot be '${text}'`, `use a number from 1 to ${MAX_QUEUES}`);
}

/** The disk's name, and its options. */
function parts(text: string): [string, ...string[]] {
  if (!text.startsWith('json:')) return words(text) as [string, ...string[]];
  const end = text.lastIndexOf('}') + 1;
  return [text.slice(0, end), ...words(text.slice(end)).slice(1)];
}

/** A whole disk's name. @throws OperatorError USAGE */
export function parseVdev(name: string): VirtualDevice {
  const number = diskNumber(name);
  if (number === undefined) {
    throw new OperatorError('USAGE', `'${name}' is no name of a virtual disk`, 'use xvda, xvdb …, hda to hdd or sda to sdp');
  }
  return { name, number };
}
