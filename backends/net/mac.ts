/** Ethernet addresses of vifs. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { OperatorError } from '../../shim/observe/errors.js';

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;

/** An address in the usual notation, in lower case; undefined if it is none, or names a group. */
export function parseMac(text: string): string | undefined {
  const mac = text.toLowerCase();
  if (!MAC.test(mac) || mac === '00:00:00:00:00:00') return undefined;
  return (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 ? mac : undefined;
}

/** @throws OperatorError MAC_SYNTAX */
export function requireMac(text: string): string {
  const mac = parseMac(text);
  if (mac === undefined) {
    throw new OperatorError(
      'MAC_SYNTAX',
      `'${text}' is not the address of an interface`,
      'write six hexadecimal bytes with an even first one, such as mac=00:16:3e:12:34:56',
    );
  }
  return mac;
}

/** What tells this host from others on the same wire. */
function hostIdentity(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim();
  } catch {
    return hostname();
  }
}

/**
 * An address within 00:16:3e (Xen's OUI) that looks random but stays the same for the same interface of the same host,
 * so that a guest started again keeps its lease.
 * @param link what distinguishes this interface on the host, e.g. `tap=tap0`
 */
export function defaultMac(link: string, index: number, host = hostIdentity()): string {
  const digest = createHash('sha256').update(`${host}\0${link}\0${index}`).digest();
  const tail = [digest[0]! & 0x7f, digest[1]!, digest[2]!].map((byte) => byte.toString(16).padStart(2, '0'));
  return ['00', '16', '3e', ...tail].join(':');
}
