/**
 * A disk's name as what QEMU calls a block node. `json:{…}` is taken as it is; a URI becomes the options its driver has,
 * because qemu-storage-daemon knows no file names of that kind; anything else is a file.
 */
import { OperatorError } from '../../../shim/observe/errors.js';

export type BlockNode = Record<string, unknown>;

/** Seconds a request waits for an NBD server that has gone: the guest's disk stands still meanwhile. */
const NBD_RECONNECT = 3600;

const USE = 'use nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, ssh, http, https, ftp, iscsi, nfs, rbd:POOL/IMAGE or json:{…}';

const wrong = (name: string, what: string): OperatorError => new OperatorError('DISK_URI', `disk ${name}: ${what}`, USE);

/** Whether a disk's name is anything but a path. */
export const isStorageUri = (name: string): boolean => /^(?:json:|rbd:|nbd:|[a-z][a-z0-9+.-]*:\/\/)/.test(name);

/** @throws OperatorError DISK_URI */
export function storageNode(name: string): BlockNode {
  if (name.startsWith('json:')) return jsonNode(name);
  if (name.startsWith('rbd:')) return rbdNode(name);
  if (name.startsWith('nbd:') && !name.startsWith('nbd://')) return oldNbdNode(name);
  let uri: URL;
  try {
    uri = new URL(name);
  } catch {
    throw wrong(name, 'this is no URI');
  }
  const scheme = uri.protocol.slice(0, -1);
  switch (scheme) {
    case 'nbd':
    case 'nbd+tcp':
      return nbd(inet(uri, '10809'), path(uri).slice(1));
    case 'nbd+unix':
      return nbd(unix(name, uri), path(uri).slice(1));
    case 'http':
    case 'https':
    case 'ftp':
    case 'ftps':
      return { driver: scheme, url: name };
    case 'ssh':
      return { driver: 'ssh', server: { host: host(uri), port: uri.port || '22' }, path: path(uri), ...user(uri) };
    case 'nfs':
      return { driver: 'nfs', server: { type: 'inet', host: host(uri) }, path: path(uri) };
    case 'iscsi':
      return iscsiNode(name, uri);
    default:
      throw wrong(name, `xenshim knows no '${scheme}'`);
  }
}

/** What may be said in a log line or in the store: without passwords. */
export function shownName(name: string): string {
  if (name.startsWith('json:')) return 'json:{…}';
  return name.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@]*@/, '$1').replace(/:(key|password)=[^:]*/g, '');
}

const nbd = (server: BlockNode, name: string): BlockNode => ({
  driver: 'nbd',
  server,
  ...(name === '' ? {} : { export: name }),
  'reconnect-delay': NBD_RECONNECT,
});

/** URL keeps the brackets of IPv6 addresses, QEMU wants none. */
const host = (uri: URL): string => uri.hostname.replace(/^\[(.*)\]$/, '$1');
const path = (uri: URL): string => decodeURIComponent(uri.pathname);
const user = (uri: URL): BlockNode => (uri.username === '' ? {} : { user: decodeURIComponent(uri.username) });
const inet = (uri: URL, port: string): BlockNode => ({ type: 'inet', host: host(uri), port: uri.port || port });

function unix(name: string, uri: URL): BlockNode {
  const socket = uri.searchParams.get('socket');
  if (socket === null) throw wrong(name, 'the socket is missing');
  return { type: 'unix', path: socket };
}

function jsonNode(name: string): BlockNode {
  let node: unknown;
  try {
    node = JSON.parse(name.slice('json:'.length));
  } catch (error) {
    throw wrong('json:{…}', (error as Error).message);
  }
  if (typeof node !== 'object' || node === null || Array.isArray(node) || !('driver' in node)) {
    throw wrong('json:{…}', 'there is no "driver"');
  }
  return node as BlockNode;
}

/** `nbd:HOST:PORT[:exportname=NAME]`, `nbd:unix:PATH[:exportname=NAME]` */
function oldNbdNode(name: string): BlockNode {
  const [, place, exported = ''] = /^nbd:(.*?)(?::exportname=(.*))?$/.exec(name) ?? [];
  const [, address, port] = /^(.*):(\d+)$/.exec(place ?? '') ?? [];
  if (place?.startsWith('unix:') === true) return nbd({ type: 'unix', path: place.slice('unix:'.length) }, exported);
  if (address === undefined || port === undefined) throw wrong(name, 'the port is missing');
  return nbd({ type: 'inet', host: address, port }, exported);
}

/** `rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:KEY=VALUE]…`; of the options those that QEMU's driver has by name. */
function rbdNode(name: string): BlockNode {
  const [place, ...options] = name.slice('rbd:'.length).split(':') as [string, ...string[]];
  const parts = /^([^/@]+)\/(?:([^/@]+)\/)?([^/@]+)(?:@(.+))?$/.exec(place);
  if (parts === null) throw wrong(shownName(name), 'this is no POOL/IMAGE');
  const [, pool, namespace, image, snapshot] = parts;
  const node: BlockNode = { driver: 'rbd', pool, image };
  if (namespace !== undefined) node['namespace'] = namespace;
  if (snapshot !== undefined) node['snapshot'] = snapshot;
  for (const option of options) {
    const [key, value] = option.split('=');
    if (key === 'id') node['user'] = value;
    else if (key === 'conf') node['conf'] = value;
    else throw wrong(shownName(name), `the option '${key!}' has to be said with json:{…}`);
  }
  return node;
}

/** `iscsi://[USER@]HOST[:PORT]/TARGET/LUN` */
function iscsiNode(name: string, uri: URL): BlockNode {
  const [, target, lun] = /^\/([^/]+)\/(\d+)$/.exec(path(uri)) ?? [];
  if (target === undefined) throw wrong(name, 'target and LUN are missing');
  const portal = `${uri.hostname}:${uri.port || '3260'}`;
  return { driver: 'iscsi', transport: 'tcp', portal, target, lun: Number(lun), ...user(uri) };
}
