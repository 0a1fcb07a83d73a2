/** `LINK[,OPTION]…`: a PV network interface as the command line has it. */
import { requireMac } from '../../backends/net/mac.js';
import { usableMtu } from '../../backends/net/mtu.js';
import { requireRate } from '../../backends/net/rate.js';
import { parseLink, type LinkSpec } from '../../backends/net/links.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { words } from '../qemu/option-values.js';

export interface VifOption {
  readonly link: LinkSpec;
  readonly mac?: string;
  /** "bytes,usec" */
  readonly rate?: string;
  readonly mtu?: number;
  /** Default: one. */
  readonly queues?: number;
  readonly pcap?: string;
  readonly snapLength?: number;
}

export const VIF_OPTIONS = 'mac=MAC, rate=RATE, mtu=BYTES, queues=N, vifname=NAME, pcap=FILE, snaplen=BYTES';
export const VIF_LINKS = 'tap=NAME, bridge=NAME, user, socket=PATH[,server]';

/** As dev_valid_name in Linux has it; a per cent sign would have the kernel make a name up. */
const INTERFACE = /^[^\s/:%]{1,15}$/;
/** As many as Linux netback offers at most. */
export const MAX_QUEUES = 8;
const MAX_SNAP_LENGTH = 262_144;

const bad = (text: string, what: string, remedy: string): OperatorError => new OperatorError('USAGE', `--vif ${text}: ${what}`, remedy);

function checkInterface(text: string, name: string): string {
  if (INTERFACE.test(name) && name !== '.' && name !== '..') return name;
  throw bad(text, `'${name}' is no name for an interface`,
    'use at most 15 characters, none of them a space, a slash, a colon or a per cent sign');
}

function number(text: string, key: string, value: string, min: number, max: number): number {
  if (/^[0-9]{1,9}$/.test(value) && Number(value) >= min && Number(value) <= max) return Number(value);
  throw bad(text, `${key} cannot be '${value}'`, `use ${min} to ${max}`);
}

/** A value checked elsewhere, with the words that were written. */
function checked<T>(text: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof OperatorError) throw bad(text, error.message, error.remedy);
    throw error;
  }
}

/** @throws OperatorError USAGE */
export function parseVif(text: string): VifOption {
  let link: LinkSpec | undefined;
  let vifname: string | undefined;
  let server = false;
  const option: { -readonly [Key in keyof VifOption]?: VifOption[Key] } = {};
  for (const word of words(text)) {
    const [, key = '', value = ''] = /^(\w+)(?:=(.*))?$/s.exec(word) ?? [];
    switch (key) {
      case 'tap':
      case 'bridge':
      case 'user':
      case 'socket':
        if (link !== undefined) throw bad(text, `'${word}' is a second link`, `name one of ${VIF_LINKS}`);
        if (key === 'tap' || key === 'bridge') checkInterface(text, value);
        link = checked(text, () => parseLink(word));
        break;
      case 'server':
        server = true;
        break;
      case 'mac':
        option.mac = checked(text, () => requireMac(value));
        break;
      case 'rate':
        option.rate = checked(text, () => requireRate(value));
        break;
      case 'mtu':
        option.mtu = checked(text, () => usableMtu(Number(value)));
        break;
      case 'queues':
        option.queues = number(text, key, value, 1, MAX_QUEUES);
        break;
      case 'vifname':
        vifname = checkInterface(text, value);
        break;
      case 'pcap':
        if (value === '') throw bad(text, 'pcap names no file', 'write pcap=FILE');
        option.pcap = value;
        break;
      case 'snaplen':
        option.snapLength = number(text, key, value, 14, MAX_SNAP_LENGTH);
        break;
      default:
        throw bad(text, `'${word}' is no vif option`, `use ${VIF_LINKS}, then ${VIF_OPTIONS}`);
    }
  }
  if (link === undefined) throw bad(text, 'there is no link', `name one of ${VIF_LINKS}`);
  return { ...option, link: placed(text, link, vifname, server) };
}

/** Options that belong to one kind of link. */
function placed(text: string, link: LinkSpec, vifname: string | undefined, server: boolean): LinkSpec {
  if (server && link.kind !== 'socket') throw bad(text, "'server' is for a socket", 'leave it out');
  if (vifname !== undefined && link.kind !== 'bridge') throw bad(text, "'vifname' is for a bridge", 'a tap has its name in tap=NAME');
  if (link.kind === 'socket' && server) return { ...link, server };
  if (link.kind === 'bridge' && vifname !== undefined) return { ...link, vifname };
  return link;
}
