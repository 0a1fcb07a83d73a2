/** The control socket's commands for a guest's network interfaces. */
import { resolve } from 'node:path';
import type { NetBackendChange } from '../../backends/net/driver.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { ControlHandlers } from '../control/server.js';
import type { NetDevices } from './net-devices.js';
import { parseVif, type VifOption } from './vif-option.js';

type Args = Readonly<Record<string, unknown>>;

const bad = (name: string): OperatorError =>
  new OperatorError('BAD_REQUEST', `the argument '${name}' is not usable`, 'use the xenshim that started the guest');

function text(args: Args, name: string): string {
  const value = args[name];
  if (typeof value !== 'string') throw bad(name);
  return value;
}

function index(args: Args): number {
  const value = args['index'];
  if (typeof value !== 'number') throw bad('index');
  return value;
}

/** A relative name is one of the folder the operator is in, not of ours. */
function inFolder(option: VifOption, cwd: string): VifOption {
  const { link, pcap } = option;
  return {
    ...option,
    link: link.kind === 'socket' ? { ...link, path: resolve(cwd, link.path) } : link,
    ...(pcap === undefined ? {} : { pcap: resolve(cwd, pcap) }),
  };
}

export function netControl(devices: NetDevices): ControlHandlers {
  return {
    'net-list': () => devices.list(),
    'net-stat': (args) => devices.stats(args['index'] === undefined ? undefined : index(args)),
    'net-attach': (args) => devices.attach(inFolder(parseVif(text(args, 'vif')), text(args, 'cwd'))),
    'net-detach': (args) => devices.detach(index(args), args['force'] === true),
    'net-set': (args) => {
      const { mac, mtu, rate, up } = args;
      const change: NetBackendChange = {
        ...(typeof mac === 'string' ? { mac } : {}),
        ...(typeof mtu === 'number' ? { mtu } : {}),
        ...(typeof rate === 'string' ? { rate } : {}),
        ...(typeof up === 'boolean' ? { up } : {}),
      };
      devices.set(index(args), change);
      return undefined;
    },
  };
}
