// Debian packages that building, the tests and the lab need. A need counts as met when its program or file is there, no
// matter who put it there.
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { CannotPrepare, quietly, step, works } from './steps.mjs';

const program = (name) => ({ program: name });
const file = (path) => ({ file: path });
const amRoot = process.getuid() === 0;

/** To compile the addon, the plugin and the npm packages with native parts. */
const build = { 'g++': program('g++'), make: program('make'), python3: program('python3') };

/** To boot guests: building images, the lab around them, disks, taps. */
const guests = {
  mmdebstrap: program('mmdebstrap'),
  'qemu-system-x86': program('qemu-system-x86_64'),
  'qemu-utils': program('qemu-img'),
  e2fsprogs: program('mke2fs'),
  iproute2: program('ip'),
  // Without root, mmdebstrap works in a user namespace, and the owners of the files are kept by fakeroot.
  ...(amRoot ? {} : { uidmap: program('newuidmap'), fakeroot: program('fakeroot') }),
};

/** What only tests need: the public Xen headers to compare layouts with, and Xen's own xenstore tools. */
const tests = {
  'libc6-dev': file('/usr/include/stdio.h'),
  'libxen-dev': file('/usr/include/xen/xen.h'),
  'xenstore-utils': program('xenstore-ls'),
};

export const needs = { demo: { ...build, ...guests }, test: { ...build, ...guests, ...tests } };

function onPath(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Names of the packages whose program or file is not there. */
export function missing(wanted) {
  return Object.keys(wanted).filter((name) => {
    const { program: command, file: path } = wanted[name];
    return command === undefined ? !existsSync(path) : !onPath(command);
  });
}

/** Installs what is missing, as root or through sudo without a password. @throws CannotPrepare with the line to run */
export async function installPackages(wanted) {
  const absent = missing(wanted);
  if (absent.length === 0) return;
  const install = ['install', '-y', '--no-install-recommends', ...absent];
  const prefix = amRoot ? [] : ['sudo', '-n'];
  if (!onPath('apt-get')) {
    throw new CannotPrepare(`not installed here: ${absent.join(', ')} (names of Debian packages)`);
  }
  if (!amRoot && !works('sudo', ['-n', 'true'])) {
    const line = `apt-get update && apt-get ${install.join(' ')}`;
    throw new CannotPrepare(`Debian packages are missing; install them with\n\n  sudo sh -c '${line}'\n`);
  }
  const apt = (args) => {
    const [first, ...rest] = [...prefix, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', ...args];
    return quietly(first, rest, { hint: 'Debian packages could not be installed' });
  };
  await step('list of Debian packages', () => apt(['update']));
  await step(`Debian packages ${absent.join(' ')}`, () => apt(install));
  const still = missing(wanted);
  if (still.length > 0) throw new CannotPrepare(`installed, but still not to be found: ${still.join(', ')}`);
}
