/** The control socket's commands for a guest's disks. */
import { resolve } from 'node:path';
import { isStorageUri } from '../../backends/block/target/storage-uri.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { ControlHandlers } from '../control/server.js';
import type { BlockDevices } from './block-devices.js';
import { parseDisk, parseVdev } from './disk-option.js';

type Args = Readonly<Record<string, unknown>>;

function text(args: Args, name: string): string {
  const value = args[name];
  if (typeof value !== 'string') {
    throw new OperatorError('BAD_REQUEST', `the argument '${name}' is missing`, 'use the xenshim that started the guest');
  }
  return value;
}

export function blockControl(devices: BlockDevices): ControlHandlers {
  return {
    'block-list': () => devices.list(),
    'block-attach': (args) => {
      const option = parseDisk(text(args, 'disk'));
      const as = args['as'] === undefined ? {} : { vdev: parseVdev(text(args, 'as')) };
      // A relative name is one of the folder the operator is in, not of ours.
      const file = isStorageUri(option.file) ? option.file : resolve(text(args, 'cwd'), option.file);
      return devices.attach({ ...option, ...as, file });
    },
    'block-detach': (args) => devices.detach(text(args, 'vdev'), args['force'] === true),
    'block-stat': (args) => devices.stat(args['vdev'] === undefined ? undefined : text(args, 'vdev')),
    'block-set': (args) => {
      const { setting, value } = args;
      if (setting !== 'max-buffer-pages' || typeof value !== 'number') {
        throw new OperatorError('BAD_REQUEST', 'the guest does not know this setting', 'use the xenshim that started it');
      }
      return devices.setMaxBufferPages(text(args, 'vdev'), value);
    },
    'block-resize': (args) => {
      const { bytes, relative } = args;
      const shrink = args['shrink'] === true;
      return devices.resize(text(args, 'vdev'), (now) =>
        typeof bytes === 'number' ? { bytes: relative === true ? now + bytes : bytes, shrink } : { shrink });
    },
  };
}
