/** How a guest is started: what QEMU's command line says of its kernel or firmware, and where its root file system lies. */
import { copyFileSync, closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';

/**
 * `kernel`: QEMU loads the bzImage and initrd. `pvh`: it enters the ELF kernel by its PVH note, and nothing emulated waits to be
 * unplugged. `bios`, `uefi`: firmware and boot loader read an emulated disk, which is the PV disk's own image.
 * `pvh-grub`: QEMU enters GRUB by its PVH note.
 */
export type Boot = 'kernel' | 'pvh' | 'bios' | 'uefi' | 'pvh-grub';

export interface BootPlace {
  /** Folder with disk.img, and vmlinuz, initrd, vmlinux, grub-pvh.elf, uefi-code.fd and uefi-vars.fd as far as they are needed. */
  readonly image: string;
  /** The run's own copy of disk.img. */
  readonly disk: string;
  /** Folder of the run. */
  readonly work: string;
  /** For a kernel that QEMU loads. */
  readonly kernelArguments?: string;
}

/** Files that a boot makes in the run's folder. */
export const bootFiles = ['serial.log', 'uefi-vars.fd'] as const;

export function bootArguments(boot: Boot, { image, disk, work, kernelArguments = '' }: BootPlace): string[] {
  const kernel = ['-append', `root=/dev/xvda ro console=hvc0 quiet ${kernelArguments} ${hostKernelArguments()}`.trim(), '-initrd', join(image, 'initrd')];
  // An emulated disk and NIC, for the guest to unplug: the disk is the PV disk's own image, as on a Xen host.
  const emulated = [
    '-drive', `file=${disk},format=raw,if=ide,file.locking=off`,
    '-netdev', 'hubport,id=emulated,hubid=0', '-device', 'e1000,netdev=emulated,romfile=',
  ];
  const serial = ['-serial', `file:${join(work, 'serial.log')}`];
  switch (boot) {
    case 'kernel':
      return ['-kernel', join(image, 'vmlinuz'), ...kernel, ...emulated];
    case 'pvh':
      return ['-kernel', join(image, 'vmlinux'), ...kernel, ...serial];
    case 'pvh-grub':
      return ['-kernel', join(image, 'grub-pvh.elf'), ...serial];
    case 'bios':
      return [...emulated, ...serial];
    case 'uefi': {
      const variables = join(work, 'uefi-vars.fd');
      copyFileSync(join(image, 'uefi-vars.fd'), variables);
      return [
        '-drive', `file=${join(image, 'uefi-code.fd')},if=pflash,format=raw,readonly=on`,
        '-drive', `file=${variables},if=pflash,format=raw`, ...emulated, ...serial,
      ];
    }
  }
}

/** What a guest's kernel must be told here: the timers of the lab's software CPU are too slow for the check at boot. */
function hostKernelArguments(): string {
  return process.env['XENSHIM_LAB'] === undefined ? '' : 'no_timer_check';
}

const SECTOR = 512;
/** Master boot record: four entries of 16 bytes, in each the type at 4 and the first sector at 8. */
const MBR = { partitions: 446, entry: 16, type: 4, first: 8, signature: 510 } as const;
const LINUX = 0x83;

/** An image's root file system, as debugfs and e2fsck take it: the image, or its first Linux partition. */
export function rootFileSystem(disk: string): string {
  const sector = Buffer.alloc(SECTOR);
  const fd = openSync(disk, 'r');
  try {
    readSync(fd, sector, 0, SECTOR, 0);
  } finally {
    closeSync(fd);
  }
  if (sector.readUInt16LE(MBR.signature) !== 0xaa55) return disk;
  for (let at = MBR.partitions; at < MBR.signature; at += MBR.entry) {
    if (sector[at + MBR.type] === LINUX) return `${disk}?offset=${sector.readUInt32LE(at + MBR.first) * SECTOR}`;
  }
  return disk;
}
