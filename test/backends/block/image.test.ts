import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, fstatSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import test from 'ava';

import { openImage } from '../../../backends/block/image.js';
import { OperatorError } from '../../../shim/observe/errors.js';

function folder(): { path: (name: string) => string; image: (name: string, bytes?: number) => string; end: () => void } {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-image-'));
  const path = (name: string): string => join(dir, name);
  return {
    path,
    image: (name, bytes = 1 << 20) => {
      writeFileSync(path(name), '');
      truncateSync(path(name), bytes);
      return path(name);
    },
    end: () => {
      rmSync(dir, { recursive: true });
    },
  };
}

const writable = { readonly: false };

test('an image tells its size, and gives its descriptor back', (t) => {
  const { image, end } = folder();
  const disk = openImage(image('a.img', 3 * 512), { readonly: false });
  t.like(disk.target, { sectors: 3, sectorSize: 512, physicalSectorSize: 512, readonly: false });
  t.is(disk.physicalDevice, undefined);
  disk.close();
  t.throws(() => {
    fstatSync(disk.fd);
  });
  end();
});

test('discard is offered on a writable file that can be punched, and not when told not to', (t) => {
  const { image, end } = folder();
  const path = image('a.img');
  const granularity = (options: { readonly: boolean; discard?: boolean }): number | undefined => {
    const disk = openImage(path, options);
    disk.close();
    return disk.target.discardGranularity;
  };
  t.true((granularity({ readonly: false }) ?? 0) >= 512);
  t.is(granularity({ readonly: false, discard: false }), undefined);
  t.is(granularity({ readonly: true }), undefined);
  end();
});

test('an image that cannot be used is an operator error with a stable code and a way out', (t) => {
  const { path, image, end } = folder();
  writeFileSync(path('q.qcow2'), Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(508)]));
  const cases: [string, string][] = [
    [path('missing.img'), 'DISK_MISSING'],
    [join(image('file.img'), 'below'), 'DISK_MISSING'],
    [path('.'), 'DISK_KIND'],
    ['/dev/null', 'DISK_KIND'],
    [image('odd.img', 1000), 'DISK_SIZE'],
    [image('empty.img', 0), 'DISK_SIZE'],
    [path('q.qcow2'), 'DISK_FORMAT'],
  ];
  for (const [name, code] of cases) {
    const error = t.throws(() => openImage(name, writable), { instanceOf: OperatorError }, name);
    t.is(error.code, code, name);
    t.true(error.remedy.length > 0);
    t.false(error.line.includes('\n'));
  }
  end();
});

test('a directory opened read-only is refused too', (t) => {
  const { path, end } = folder();
  t.is(t.throws(() => openImage(path('.'), { readonly: true }), { instanceOf: OperatorError }).code, 'DISK_KIND');
  end();
});

const root = process.getuid?.() === 0;
if (root) console.log('skipped: an image without permission (root may open everything)');

(root ? test.skip : test)('an image without permission is an operator error', (t) => {
  const { image, end } = folder();
  const path = image('a.img');
  chmodSync(path, 0o400);
  t.is(t.throws(() => openImage(path, writable), { instanceOf: OperatorError }).code, 'DISK_PERMISSION');
  openImage(path, { readonly: true }).close();
  end();
});

test('two writers of one image exclude each other, a reader and a writer too; two readers do not', (t) => {
  const { image, end } = folder();
  const path = image('a.img');
  const first = openImage(path, { readonly: false });
  for (const readonly of [false, true]) {
    t.is(t.throws(() => openImage(path, { readonly }), { instanceOf: OperatorError }).code, 'DISK_LOCKED');
  }
  first.close();
  const readers = [1, 2].map(() => openImage(path, { readonly: true }));
  t.is(t.throws(() => openImage(path, writable), { instanceOf: OperatorError }).code, 'DISK_LOCKED');
  for (const reader of readers) reader.close();
  openImage(path, writable).close();
  end();
});

test('an image the operator shares with his own QEMU is opened whoever holds it, and holds nobody off', (t) => {
  const { image, end } = folder();
  const path = image('a.img');
  const holder = openImage(path, writable);
  const shared = openImage(path, { readonly: false, sharedWithQemu: true });
  holder.close();
  t.notThrows(() => {
    openImage(path, writable).close();
  });
  shared.close();
  end();
});

const qemuIo = spawnSync('qemu-io', ['--version']).status === 0;
const withQemu = qemuIo ? test : test.skip;
if (!qemuIo) console.log('skipped: QEMU\'s side of image locks (qemu-io is not installed)');

withQemu('an image that QEMU has open for writing is DISK_LOCKED, and is free once QEMU is gone', async (t) => {
  const { image, end } = folder();
  const path = image('a.img');
  const qemu = spawn('qemu-io', ['-f', 'raw', path], { stdio: ['pipe', 'pipe', 'inherit'] });
  // The prompt comes after the image is open.
  await once(qemu.stdout, 'data');
  t.is(t.throws(() => openImage(path, writable), { instanceOf: OperatorError }).code, 'DISK_LOCKED');
  openImage(path, { readonly: false, sharedWithQemu: true }).close();
  qemu.stdin.end('quit\n');
  await once(qemu, 'exit');
  openImage(path, writable).close();
  end();
});

withQemu('QEMU refuses an image we have open for writing, and may read one we only read', (t) => {
  const { image, end } = folder();
  const path = image('a.img');
  const ours = openImage(path, writable);
  const refused = spawnSync('qemu-io', ['-f', 'raw', '-c', 'write 0 512', path], { encoding: 'utf8' });
  t.regex(refused.stderr + refused.stdout, /lock/);
  ours.close();
  const reading = openImage(path, { readonly: true });
  const read = spawnSync('qemu-io', ['-r', '-f', 'raw', '-c', 'read 0 512', path], { encoding: 'utf8' });
  t.notRegex(read.stderr, /lock/);
  reading.close();
  end();
});

test('a FIFO is refused without waiting for its other end', (t) => {
  const { path, end } = folder();
  t.is(spawnSync('mkfifo', [path('pipe')]).status, 0);
  t.is(t.throws(() => openImage(path('pipe'), writable), { instanceOf: OperatorError }).code, 'DISK_KIND');
  end();
});
