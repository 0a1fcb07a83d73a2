import test from 'ava';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bootArguments, rootFileSystem, type Boot } from '../../../cli/demo/guest-boot.js';

const work = mkdtempSync(join(tmpdir(), 'xenshim-boot-'));
test.after.always(() => rmSync(work, { recursive: true }));

function disk(name: string, bytes: Buffer): string {
  const path = join(work, name);
  writeFileSync(path, bytes);
  return path;
}

/** A master boot record with partitions of a type at a first sector. */
function mbr(...partitions: readonly [type: number, first: number][]): Buffer {
  const sector = Buffer.alloc(1024);
  sector.writeUInt16LE(0xaa55, 510);
  partitions.forEach(([type, first], i) => {
    sector[446 + 16 * i + 4] = type;
    sector.writeUInt32LE(first, 446 + 16 * i + 8);
  });
  return sector;
}

test('the root file system is the whole image, or the first Linux partition of a disk', (t) => {
  const plain = disk('plain.img', Buffer.alloc(1024));
  t.is(rootFileSystem(plain), plain);
  const whole = disk('whole.img', mbr([0xef, 2048], [0x83, 32768]));
  t.is(rootFileSystem(whole), `${whole}?offset=${32768 * 512}`);
  const none = disk('none.img', mbr([0xef, 2048]));
  t.is(rootFileSystem(none), none);
  const short = disk('short.img', Buffer.alloc(0));
  t.is(rootFileSystem(short), short);
});

test('each boot gives QEMU what it takes: a kernel, or firmware that finds the emulated disk', (t) => {
  const args = (boot: Boot): string => bootArguments(boot, { image: work, disk: 'd.img', work }).join(' ');
  t.regex(args('kernel'), /-kernel \S+\/vmlinuz .*-initrd \S+\/initrd .*file=d\.img,.*e1000/);
  t.regex(args('pvh'), /-kernel \S+\/vmlinux .*-initrd/);
  t.regex(args('pvh-grub'), /-kernel \S+\/grub-pvh\.elf/);
  for (const boot of ['pvh', 'pvh-grub'] as const) t.false(/e1000|if=ide/.test(args(boot)), 'nothing emulated to unplug');
  t.regex(args('bios'), /file=d\.img,format=raw,if=ide.*e1000/);
  t.false(args('bios').includes('-kernel'));
});

test('a machine with UEFI has variables of its own', (t) => {
  const image = mkdtempSync(join(work, 'image-'));
  writeFileSync(join(image, 'uefi-vars.fd'), 'variables');
  const own = mkdtempSync(join(work, 'run-'));
  const args = bootArguments('uefi', { image, disk: 'd.img', work: own }).join(' ');
  t.true(args.includes(`file=${join(own, 'uefi-vars.fd')},if=pflash`));
  t.regex(args, /uefi-code\.fd,if=pflash,format=raw,readonly=on/);
  t.true(existsSync(join(own, 'uefi-vars.fd')));
});
