/** What a QEMU command line says about memory and accelerator, and what has to be added to it. Pure. */
import { OperatorError } from '../../shim/observe/errors.js';

const UNITS: Readonly<Record<string, number>> = { b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** A size as QEMU's -m takes it (MiB unless it has a suffix), in bytes; undefined if it is not one. */
export function memorySize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([bkmgt])?$/i.exec(text);
  if (match === null) return undefined;
  const unit = UNITS[(match[2] ?? 'm').toLowerCase()]!;
  return Math.floor(Number(match[1]) * unit);
}

/** `a,b=1,c=2` as QEMU reads it: `,,` is a comma; a first word without `=` goes under `implied`. */
export function keyValues(text: string, implied: string): Map<string, string> {
  const pairs = new Map<string, string>();
  const words = text.replaceAll(',,', '\0').split(',').map((word) => word.replaceAll('\0', ','));
  words.forEach((word, i) => {
    const equals = word.indexOf('=');
    if (equals >= 0) pairs.set(word.slice(0, equals), word.slice(equals + 1));
    else if (i === 0) pairs.set(implied, word);
    else pairs.set(word, 'on');
  });
  return pairs;
}

interface Given {
  machine: Map<string, string>;
  accelerators: Map<string, string>[];
  objects: Map<string, Map<string, string>>;
  memdevs: string[];
  /** Bytes. */
  memory: number;
  memPath: boolean;
}

/** Options may be written with one dash or two. */
function read(argv: readonly string[]): Given {
  const given: Given = {
    machine: new Map(), accelerators: [], objects: new Map(), memdevs: [], memory: 128 * 2 ** 20, memPath: false,
  };
  for (let i = 0; i < argv.length; i++) {
    const option = /^--?([a-zA-Z][\w-]*)$/.exec(argv[i]!)?.[1];
    if (option === undefined) continue;
    const value = argv[i + 1] ?? '';
    switch (option) {
      case 'm': {
        const size = memorySize(keyValues(value, 'size').get('size') ?? '');
        if (size !== undefined) given.memory = size;
        break;
      }
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
        if (memdev !== undefined) given.memdevs.push(memdev);
        break;
      }
      case 'mem-path':
        given.memPath = true;
        break;
      default:
        break;
    }
  }
  return given;
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

function checkShared(given: Given, id: string): void {
  const backend = given.objects.get(id);
  if (backend === undefined) {
    throw new OperatorError('MEMORY_BACKEND', `the QEMU command names memory backend '${id}' but has no such object`,
      `add -object memory-backend-memfd,id=${id},share=on,size=…`);
  }
  const type = backend.get('qom-type');
  const shared = backend.get('share') ?? (type === 'memory-backend-memfd' ? 'on' : 'off');
  if (type === 'memory-backend-ram' || !['on', 'yes', 'true', 'y'].includes(shared)) {
    throw new OperatorError('MEMORY_NOT_SHARED', `guest RAM in '${id}' (${type ?? 'no type'}) cannot be shared`,
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
  const backends = [...given.memdevs];
  const named = given.machine.get('memory-backend');
  if (named !== undefined) backends.push(named);
  if (backends.length > 0) {
    for (const id of backends) checkShared(given, id);
    return added;
  }
  if (given.memPath) {
    throw new OperatorError('MEM_PATH', '-mem-path makes guest RAM that cannot be shared',
      'use -object memory-backend-file,id=ram,mem-path=…,share=on,size=… with -machine memory-backend=ram');
  }
  added.push('-object', `memory-backend-memfd,id=xenshim-ram,share=on,size=${given.memory}`);
  added.push('-machine', 'memory-backend=xenshim-ram');
  return added;
}

/** The bytes of RAM the command gives the guest, and how many vCPUs it starts with. */
export function guestSize(argv: readonly string[]): { memory: number; vcpus: number } {
  const given = read(argv);
  let vcpus = 1;
  argv.forEach((argument, i) => {
    if (!/^--?smp$/.test(argument)) return;
    const smp = keyValues(argv[i + 1] ?? '', 'cpus');
    const cpus = Number(smp.get('cpus') ?? NaN);
    const product = ['sockets', 'dies', 'clusters', 'cores', 'threads'].reduce(
      (total, key) => total * Number(smp.get(key) ?? 1), 1);
    vcpus = Number.isInteger(cpus) && cpus > 0 ? cpus : product;
  });
  return { memory: given.memory, vcpus };
}

/** Whether the command opens this file itself (for booting from the emulated disk before the guest unplugs it). */
export function mentions(argv: readonly string[], file: string): boolean {
  return argv.some((argument) => argument === file || keyValues(argument, 'file').get('file') === file
    || keyValues(argument, 'filename').get('filename') === file);
}
