/** The file that pages of a guest go to, opened before QEMU starts, and what else paging needs of this host. */
import { closeSync, constants, openSync, readdirSync, readFileSync, statfsSync, unlinkSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { native } from '../../kvm/native.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { keyValues } from '../qemu/option-values.js';
import type { PagingOption } from './paging-option.js';

/** Paging of a guest that has yet to start. */
export interface PagingPart {
  readonly path: string;
  /** Descriptor of the page file. */
  readonly file: number;
  /** Bytes. */
  readonly maxResident: number;
  /** Closes and deletes the page file. */
  close(): void;
}

/**
 * @param memory bytes of RAM the guest has
 * @throws OperatorError when this host, this QEMU command or this file is no good for paging
 */
export function openPaging({ file: path, maxResident }: PagingOption, memory: number, qemuArgs: readonly string[]): PagingPart {
  requireAlone(qemuArgs);
  requireSmallPages();
  requireUserfaultfd();
  const file = create(path);
  const close = (): void => {
    closeSync(file);
    unlinkSync(path);
  };
  const { bavail, bsize } = statfsSync(path);
  const need = memory - maxResident;
  if (bavail * bsize < need) {
    close();
    throw new OperatorError('PAGE_FILE_ROOM',
      `${path}: the file system has ${mib(bavail * bsize)} MiB left, and ${mib(need)} MiB of the guest may have to go there`,
      'make room, choose another file system, or raise --max-resident');
  }
  return { path, file, maxResident, close };
}

const mib = (bytes: number): number => Math.floor(bytes / 2 ** 20);

function create(path: string): number {
  try {
    // The guest's memory is nobody else's business.
    return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') {
      throw new OperatorError('PAGE_FILE_EXISTS', `${path} exists already`,
        'name a new file; one that a guest has left behind can be deleted');
    }
    throw new OperatorError('PAGE_FILE', `cannot make the page file ${path} (${code ?? String(error)})`, 'check the path and its permissions');
  }
}

function requireUserfaultfd(): void {
  const errno = native.userfaultfdProblem();
  if (errno === 0) return;
  throw new OperatorError('NO_USERFAULTFD', `paging needs userfaultfd (${getSystemErrorName(-errno)})`,
    'run as root, or give this user /dev/userfaultfd, or set vm.unprivileged_userfaultfd=1; see `xenshim check`', 3);
}

/**
 * A huge page in the guest's memfd fills frames that nobody asked for, and cannot be taken out frame by frame.
 */
function requireSmallPages(): void {
  const root = '/sys/kernel/mm/transparent_hugepage';
  const inUse = (file: string, fine: readonly string[]): boolean => {
    try {
      const chosen = /\[(\w+)\]/.exec(readFileSync(file, 'latin1'))?.[1];
      return chosen !== undefined && !fine.includes(chosen);
    } catch {
      return false;
    }
  };
  const main = inUse(`${root}/shmem_enabled`, ['never', 'deny']);
  const sized = sizes(root).find((folder) => inUse(`${folder}/shmem_enabled`, main ? ['never'] : ['never', 'inherit']));
  if (!main && sized === undefined) return;
  throw new OperatorError('HUGE_PAGES', 'this host puts shared memory on huge pages, which cannot be paged',
    `write never to ${main ? root : sized!}/shmem_enabled`, 3);
}

function sizes(root: string): string[] {
  try {
    return readdirSync(root).filter((name) => name.startsWith('hugepages-')).map((name) => `${root}/${name}`);
  } catch {
    return [];
  }
}

/** Nobody else may have the guest's RAM mapped: touching a frame that is out would make an empty page of it. */
function requireAlone(qemuArgs: readonly string[]): void {
  const other = qemuArgs.find((argument) => /(^|,|")(driver":\s*")?(vfio-|vhost-user|vhost-vdpa|virtio-mem)/.test(argument));
  if (other !== undefined) {
    throw new OperatorError('PAGING_DEVICE', `memory that '${other}' uses cannot be paged`, 'leave out the device or --page-to');
  }
  if (qemuArgs.some((argument) => keyValues(argument, '').get('hugetlb') === 'on' || /hugepages/.test(argument))) {
    throw new OperatorError('HUGE_PAGES', 'RAM on huge pages cannot be paged', 'leave hugetlb= out of the QEMU command');
  }
}
