/** What a QEMU command line says about memory and accelerator, and what has to be added to it. Pure. */
import { OperatorError } from '../../shim/observe/errors.js';
import { isOn, keyValues, memorySize } from './option-values.js';

/** RAM of a machine without -m: what pc and q35 have. */
const DEFAULT_MEMORY = 128 * 2 ** 20;
/** QEMU rounds RAM up to this, and a memory backend must have the rounded size. */
const MEMORY_ALIGN = 8192;

interface Given {
  machine: Map<string, string>;
  accelerators: Map<string, string>[];
  /** By id. */
  objects: Map<string, Map<string, string>>;
  /** Memory backends of the NUMA nodes: all of the RAM the machine starts with. */
  nodes: string[];
  /** Memory backends of DIMMs and the like: RAM besides that. */
  dimms: string[];
  smp: Map<string, string>;
  /** Bytes. */
  memory: number;
  memPath: boolean;
}

/** Options may be written with one dash or two; of a key given twice the last counts. */
function read(argv: readonly string[]): Given {
  const given: Given = {
    machine: new Map(), accelerators: [], objects: new Map(), nodes: [], dimms: [], smp: new Map(),
    memory: DEFAULT_MEMORY, memPath: false,
  };
  argv.forEach((argument, i) => {
    const option = /^--?([a-zA-Z][\w-]*)$/.exec(argument)?.[1];
    if (option !== undefined) readOption(given, option, argv[i + 1] ?? '');
  });
  return given;
}

function readOption(given: Given, option: string, value: string): void {
  switch (option) {
    case 'm':
      given.memory = ramSize(keyValues(value, 'size').get('size')) ?? given.memory;
      break;
    case 'machine':
    case 'M':
      for (const [key, text] of keyValues(value, 'type')) given.machine.set(key, text);
      break;
    case 'accel':
      given.accelerators.push(keyValues(value, 'accel'));
      break;
    case 'enable-kvm':
      given.accelerators.push(new Map([['accel', 'kvm']]));
      break;
    case 'object': {
      const object = keyValues(value, 'qom-type');
      given.objects.set(object.get('id') ?? '', object);
      break;
    }
    case 'numa': {
      const memdev = keyValues(value, 'type').get('memdev');
      if (memdev !== undefined) given.nodes.push(memdev);
      break;
    }
    case 'device': {
      const device = keyValues(value, 'driver');
      const memdev = device.get('memdev');
      if (memdev !== undefined && /^(pc-dimm|virtio-mem)/.test(device.get('driver') ?? '')) given.dimms.push(memdev);
      break;
    }
    case 'smp':
      for (const [key, text] of keyValues(value, 'cpus')) given.smp.set(key, text);
      break;
    case 'mem-path':
      given.memPath = true;
      break;
    default:
      break;
  }
}

/** -m's size in bytes; undefined when -m only gives slots and maxmem. */
function ramSize(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const size = memorySize(text);
  if (size === undefined || size === 0) {
    throw new OperatorError('MEMORY_SIZE', `the QEMU command has -m '${text}', which is no size`,
      'write a number of MiB, or one with a suffix such as 4G');
  }
  return Math.ceil(size / MEMORY_ALIGN) * MEMORY_ALIGN;
}

function checkAccelerator(given: Given): string[] {
  const names = [
    ...given.accelerators.map((accelerator) => accelerator.get('accel') ?? ''),
    ...(given.machine.get('accel')?.split(':') ?? []),
  ];
  if (given.accelerators.some((accelerator) => accelerator.has('xen-version'))) {
    throw new OperatorError(
      'XEN_VERSION', "the QEMU command already has 'xen-version=', QEMU's own Xen mode",
      'take xen-version= out of it: xenshim is Xen here',
    );
  }
  if (names.length === 0) return ['-accel', 'kvm'];
  if (names[0] !== 'kvm') {
    throw new OperatorError('ACCELERATOR', `the QEMU command asks for the accelerator '${names[0]}'`, 'use kvm');
  }
  return [];
}

/** Backends whose memory is a file that QEMU maps shared unless told otherwise. */
const SHARED_BY_DEFAULT = new Set(['memory-backend-memfd', 'memory-backend-shm']);

function checkShared(given: Given, id: string): void {
  const backend = given.objects.get(id);
  if (backend === undefined) {
    throw new OperatorError('MEMORY_BACKEND', `the QEMU command names memory backend '${id}' but has no such object`,
      `add -object memory-backend-memfd,id=${id},share=on,size=…`);
  }
  const type = backend.get('qom-type') ?? 'no type';
  const shared = backend.get('share') ?? (SHARED_BY_DEFAULT.has(type) ? 'on' : 'off');
  // memory-backend-ram has no file, not even with share=on, before QEMU 10.
  if (type === 'memory-backend-ram' || !isOn(shared)) {
    throw new OperatorError('MEMORY_NOT_SHARED', `guest RAM in '${id}' (${type}) cannot be shared`,
      'use memory-backend-memfd with share=on, or leave it out and xenshim adds one');
  }
}

/**
 * What has to be appended to the arguments of QEMU (without the program's name): KVM, and guest RAM in a shared file.
 * @throws OperatorError when the command contradicts what we need
 */
export function additions(argv: readonly string[]): string[] {
  const given = read(argv);
  const added = checkAccelerator(given);
  const named = given.machine.get('memory-backend');
  const backends = named === undefined ? given.nodes : [named, ...given.nodes];
  for (const id of [...backends, ...given.dimms]) checkShared(given, id);
  if (backends.length > 0) return added;
  if (given.memPath) {
    throw new OperatorError('MEM_PATH', '-mem-path makes guest RAM that cannot be shared',
      'use -object memory-backend-file,id=ram,mem-path=…,share=on,size=… with -machine memory-backend=ram');
  }
  added.push('-object', `memory-backend-memfd,id=xenshim-ram,share=on,size=${given.memory}`);
  added.push('-machine', 'memory-backend=xenshim-ram');
  return added;
}

/** From the outermost to the innermost; what is not given is one. */
const TOPOLOGY = ['sockets', 'dies', 'clusters', 'modules', 'cores', 'threads'];

/** The bytes of RAM the command gives the guest, and how many vCPUs it starts with. */
export function guestSize(argv: readonly string[]): { memory: number; vcpus: number } {
  const { memory, smp } = read(argv);
  const number = (key: string): number | undefined => {
    const value = Number(smp.get(key) ?? NaN);
    return Number.isInteger(value) && value > 0 ? value : undefined;
  };
  const places = TOPOLOGY.reduce((total, key) => total * (number(key) ?? 1), 1);
  return { memory, vcpus: number('cpus') ?? number('maxcpus') ?? places };
}

/** Whether the command says how much RAM the machine starts with. */
export function givesMemory(argv: readonly string[]): boolean {
  return argv.some((argument, i) => /^--?m$/.test(argument) && keyValues(argv[i + 1] ?? '', 'size').has('size'));
}

/** Whether the command opens this file itself (for booting from the emulated disk before the guest unplugs it). */
export function mentions(argv: readonly string[], file: string): boolean {
  return argv.some((argument) => argument === file
    || [...keyValues(argument, 'file')].some(([key, value]) => value === file && /(^|\.)file(name)?$/.test(key)));
}
