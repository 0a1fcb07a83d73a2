import test from 'ava';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { checkVersion, findProgram, linkage, OLDEST, parseVersion, qemuProgram } from '../../../cli/qemu/program.js';
import { refused, refusedLater } from '../refused.js';

const folder = mkdtempSync(join(tmpdir(), 'xenshim-program-'));
const path = process.env['PATH'];
test.after.always(() => {
  process.env['PATH'] = path;
  rmSync(folder, { recursive: true });
});

function program(name: string, content: string | Buffer, mode = 0o755): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  chmodSync(file, mode);
  return file;
}

/** A script that answers --version like this. */
const script = (name: string, version: string): string => program(name, `#!/bin/sh\necho '${version}'\n`);

/** An ELF file of these program headers' types, as far as a loader looks before it loads. */
function elf(types: readonly number[], { bits = 2, machine = 62, size = 56 } = {}): Buffer {
  const head = Buffer.alloc(64);
  head.writeUInt32BE(0x7f454c46);
  head[4] = bits;
  head.writeUInt16LE(machine, 18);
  head.writeBigUInt64LE(64n, 32);
  head.writeUInt16LE(size, 54);
  head.writeUInt16LE(types.length, 56);
  const table = Buffer.alloc(56 * types.length);
  types.forEach((type, i) => table.writeUInt32LE(type, 56 * i));
  return Buffer.concat([head, table]);
}

const PT_LOAD = 1;
const PT_INTERP = 3;

test('a program is found in PATH or where it was named, and only if it is an executable file', (t) => {
  const first = join(folder, 'first');
  const second = join(folder, 'second');
  mkdirSync(first);
  mkdirSync(second);
  mkdirSync(join(first, 'qemu'));
  program('first/data', 'x', 0o644);
  const wanted = program('second/qemu', '#!/bin/sh\n');
  process.env['PATH'] = `${first}:/nonexistent:${second}`;
  t.is(findProgram('qemu'), wanted, 'the folder of that name is passed over');
  t.is(findProgram('data'), undefined);
  t.is(findProgram('nothing'), undefined);
  process.env['PATH'] = path;
  t.is(findProgram(wanted), wanted);
  t.is(findProgram(join(first, 'qemu')), undefined);
});

test('an ELF program with an interpreter is dynamic and one without is static', (t) => {
  t.is(linkage(process.execPath), 'dynamic');
  t.is(linkage(program('dynamic', elf([PT_LOAD, PT_INTERP]))), 'dynamic');
  t.is(linkage(program('static', elf([PT_LOAD, PT_LOAD]))), 'static');
  t.is(linkage(program('headless', elf([]))), 'static');
});

test('an ELF program of another width or machine, or with an unreadable table, is foreign', (t) => {
  t.is(linkage(program('i386', elf([PT_INTERP], { bits: 1, machine: 3 }))), 'foreign');
  t.is(linkage(program('arm64', elf([PT_INTERP], { machine: 183 }))), 'foreign');
  t.is(linkage(program('narrow', elf([PT_INTERP], { size: 2 }))), 'foreign');
  const far = elf([PT_INTERP]);
  far.writeBigUInt64LE(2n ** 63n, 32);
  t.is(linkage(program('far', far)), 'foreign');
});

test('what is no ELF file is something else', (t) => {
  t.is(linkage(program('script', '#!/bin/sh\n')), 'other');
  t.is(linkage(program('empty', '')), 'other');
  t.is(linkage(program('magic-only', Buffer.from([0x7f, 0x45, 0x4c, 0x46]))), 'other');
  t.is(linkage(join(folder, 'missing')), 'other');
});

test('the version is read from what distributions print', (t) => {
  const texts: [string, [number, number] | undefined][] = [
    ['QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c) 2003-2025 Fabrice Bellard', [10, 0]],
    ['QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u15)', [7, 2]],
    ['QEMU emulator version 9.2.50 (v9.2.0-rc3-12-gabcdef)', [9, 2]],
    ['warning: something\nQEMU emulator version 8.2.0 (qemu-kvm-8.2.0-11.el9)', [8, 2]],
    ['qemu-img version 9.0.0', undefined], ['', undefined], ['QEMU emulator version x.y', undefined],
  ];
  for (const [text, version] of texts) t.deepEqual(parseVersion(text), version, text);
});

test('a QEMU that is new enough is taken, behind a wrapper script too', async (t) => {
  for (const version of ['7.2.0', '7.10.1', '8.0.0', '10.0.2', '11.0.50']) {
    const found = qemuProgram(script(`qemu-${version}`, `QEMU emulator version ${version}`));
    t.true(found.path.endsWith(`qemu-${version}`));
    t.is((await checkVersion(found))?.join('.'), version.split('.').slice(0, 2).join('.'));
  }
});

test('a wrapper script that does not answer --version is trusted', async (t) => {
  const silent = program('silent', '#!/bin/sh\nexit 1\n');
  t.deepEqual(qemuProgram(silent), { path: silent, wrapper: true });
  t.is(await checkVersion(qemuProgram(silent)), undefined);
});

test('a QEMU that is too old is refused with the oldest that works', async (t) => {
  for (const version of ['7.1.0', '6.2.0', '2.12.1', '0.15.0']) {
    const old = qemuProgram(script(`old-${version}`, `QEMU emulator version ${version}`));
    const line = await refusedLater(t, 'QEMU_TOO_OLD', () => checkVersion(old));
    t.true(line.includes(OLDEST.join('.')), line);
  }
});

test('a missing program is refused with the package that has it', (t) => {
  t.regex(refused(t, 'NO_QEMU', () => qemuProgram('qemu-system-nothing'), 3), /apt install/);
  refused(t, 'NO_QEMU', () => qemuProgram(folder), 3);
  refused(t, 'NO_QEMU', () => qemuProgram(program('not-executable', '#!/bin/sh\n', 0o644)), 3);
});

test('a statically linked program, a foreign one, and one that is no QEMU are refused', async (t) => {
  refused(t, 'QEMU_STATIC', () => qemuProgram(program('qemu-static', elf([PT_LOAD]))));
  refused(t, 'QEMU_FOREIGN', () => qemuProgram(program('qemu-arm', elf([PT_INTERP], { machine: 183 }))));
  await refusedLater(t, 'NOT_QEMU', () => checkVersion(qemuProgram(process.execPath)));
});
