/** Opening whatever an operator calls a disk: a raw image or device here, everything else through a storage daemon. */
import { closeSync } from 'node:fs';
import { resolve } from 'node:path';

import { connectTo, hangUp } from '../../../shim/io/unix-stream.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import type { Log } from '../../../shim/observe/log.js';
import { openImage, openImageFile } from '../image.js';
import type { DiskImage, ImageOptions } from '../image.js';
import { StorageDaemon } from './storage-daemon.js';
import { driverName, formatByName } from './storage-format.js';
import { nullDisk } from './null-disk.js';
import { isStorageUri, shownName, storageNode } from './storage-uri.js';
import type { BlockNode } from './storage-uri.js';
import { meetDevice } from './vhost-user/device.js';
import type { VhostDevice } from './vhost-user/device.js';
import { Message, VhostChannel } from './vhost-user/protocol.js';

export interface DiskOptions extends ImageOptions {
  /** `raw` or the name of one of QEMU's format drivers; undefined = by the name's ending. */
  readonly format?: string;
  /** Most queues a frontend may have. */
  readonly queues: number;
  readonly log: Log;
}

/**
 * Formats whose driver keeps tables in memory until a flush. If it died, writes it has answered would be lost, and a
 * flush that its successor answers would be a lie: every write is made durable before it is answered instead.
 */
const KEEPS_TABLES: ReadonlySet<string> = new Set(['qcow2', 'parallels']);

/**
 * @param name path, URI, json:{…} or null:SIZE
 * @throws OperatorError as openImage, as StorageDaemon.open, DISK_URI
 */
export async function openDisk(name: string, options: DiskOptions): Promise<DiskImage> {
  const nothing = nullDisk(name, options);
  if (nothing !== undefined) return nothing;
  const format = options.format === undefined ? undefined : driverName(options.format);
  if (isStorageUri(name)) {
    const node = storageNode(name);
    return openStorage(shownName(name), format === undefined ? node : around(format, node), options);
  }
  const driver = format ?? formatByName(name) ?? 'raw';
  if (driver === 'raw') return openImage(name, { ...options, ...(format === 'raw' ? { anyContent: true } : {}) });
  if (options.sharedWithQemu === true) {
    throw new OperatorError('DISK_SHARED', `disk ${name} is also on QEMU's command line, and only raw images can be`,
      'boot the guest with -kernel and -initrd, or convert the image with qemu-img convert -O raw');
  }
  const { fd, isDevice } = openImageFile(name, options.readonly);
  closeSync(fd);
  const file = { driver: isDevice ? 'host_device' : 'file', filename: resolve(name) };
  return openStorage(name, around(driver, file), options);
}

const around = (driver: string, file: BlockNode): BlockNode => ({ driver, file });

async function openStorage(name: string, node: BlockNode, options: DiskOptions): Promise<DiskImage> {
  const { readonly, queues, log, sectorSize = 512 } = options;
  const writethrough = !readonly && keepsTables(node);
  const daemon = await StorageDaemon.open({ name, node: prepared(node, options), readonly, writethrough, sectorSize, queues, log });
  try {
    const { target } = meet(daemon);
    const { cluster } = await daemon.geometry();
    const discards = target.discardGranularity !== undefined && options.discard !== false;
    return {
      place: { kind: 'vhost-user', placeFd: daemon.meeting.placeFd, queues },
      target: { ...target, readonly, discardGranularity: discards ? (cluster ?? target.discardGranularity) : undefined },
      physicalDevice: undefined,
      end: () => {
        daemon.kill();
      },
      setSize: readonly ? undefined : (bytes) => daemon.resize(bytes),
      size: async () => (await daemon.geometry()).bytes,
      close: () => daemon.close(),
    };
  } catch (error) {
    await daemon.close();
    throw error;
  }
}

/** Asks the device what it is, as a worker will. */
function meet(daemon: StorageDaemon): VhostDevice {
  const fd = connectTo(daemon.meeting.placeFd);
  try {
    const channel = new VhostChannel(fd);
    channel.send(Message.GET_FEATURES);
    return meetDevice(channel);
  } finally {
    hangUp(fd);
  }
}

/** A discard has to get through every layer; nodes below inherit whether they are read-only. */
function prepared(node: BlockNode, { readonly, direct = false }: ImageOptions): BlockNode {
  if (direct) return prepared({ cache: { direct: true }, ...node }, { readonly });
  const { file } = node;
  if (readonly || typeof file !== 'object' || file === null) return node;
  return { ...node, file: { discard: 'unmap', ...file } };
}

function keepsTables(node: unknown): boolean {
  if (typeof node !== 'object' || node === null) return false;
  return Object.entries(node).some(([key, value]) =>
    key === 'driver' ? KEEPS_TABLES.has(String(value)) : keepsTables(value));
}
