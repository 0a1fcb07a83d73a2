import test from 'ava';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseRun } from '../../../cli/run/options.js';
import { openPaging } from '../../../cli/run/page-file.js';
import { pageControl } from '../../../cli/run/page-control.js';
import type { Pager } from '../../../shim/memory/pager.js';
import { Errno } from '../../../shim/abi/errno.js';
import { native } from '../../../kvm/native.js';
import { refused, refusedLater } from '../refused.js';

const MIB = 2 ** 20;
const QEMU = ['--', 'qemu-system-x86_64'];

test('a file and a size make a paged guest, one alone does not, nor does a size that is none or too small', (t) => {
  t.deepEqual(parseRun(['--page-to', '/p', '--max-resident', '256', ...QEMU])!.paging, { file: '/p', maxResident: 256 * MIB });
  t.deepEqual(parseRun(['--page-to=/p', '--max-resident=1.5G', ...QEMU])!.paging, { file: '/p', maxResident: 1536 * MIB });
  t.is(parseRun(QEMU)!.paging, undefined);
  refused(t, 'USAGE', () => parseRun(['--page-to', '/p', ...QEMU]));
  refused(t, 'USAGE', () => parseRun(['--max-resident', '256', ...QEMU]));
  refused(t, 'USAGE', () => parseRun(['--page-to', '/p', '--max-resident', 'much', ...QEMU]));
  refused(t, 'MAX_RESIDENT', () => parseRun(['--page-to', '/p', '--max-resident', '15M', ...QEMU]));
});

const folder = mkdtempSync(join(tmpdir(), 'xenshim-paging-'));
test.after.always(() => rmSync(folder, { recursive: true }));
const usable = native.userfaultfdProblem() === 0 ? test : test.skip;
if (usable === test.skip) console.log('the page file skipped: no userfaultfd for this user');

usable('the page file is made for the owner alone and goes with the guest', (t) => {
  const file = join(folder, 'pages');
  const paging = openPaging({ file, maxResident: 64 * MIB }, 128 * MIB, []);
  t.is(statSync(file).mode & 0o777, 0o600);
  paging.close();
  t.false(existsSync(file));
});

usable('a file that exists is not overwritten, and one that cannot be made is said to be so', (t) => {
  const file = join(folder, 'precious');
  writeFileSync(file, 'x');
  refused(t, 'PAGE_FILE_EXISTS', () => openPaging({ file, maxResident: 64 * MIB }, 128 * MIB, []));
  t.is(statSync(file).size, 1);
  refused(t, 'PAGE_FILE', () => openPaging({ file: join(folder, 'no', 'way'), maxResident: 64 * MIB }, 128 * MIB, []));
});

usable('a file system without room for what may have to go there is refused, and no file is left', (t) => {
  const file = join(folder, 'large');
  const line = refused(t, 'PAGE_FILE_ROOM', () => openPaging({ file, maxResident: 64 * MIB }, 2 ** 60, []));
  t.regex(line, /MiB left/);
  t.false(existsSync(file));
});

test('devices that map guest RAM themselves, and RAM on huge pages, cannot be paged', (t) => {
  const open = (...qemu: string[]) => () => openPaging({ file: join(folder, 'never'), maxResident: 64 * MIB }, 128 * MIB, qemu);
  refused(t, 'PAGING_DEVICE', open('-device', 'vfio-pci,host=01:00.0'));
  refused(t, 'PAGING_DEVICE', open('-device', 'vhost-user-fs-pci,chardev=c'));
  refused(t, 'PAGING_DEVICE', open('-device', '{"driver":"vfio-pci","host":"01:00.0"}'));
  refused(t, 'PAGING_DEVICE', open('-netdev', 'vhost-user,id=n,chardev=c'));
  refused(t, 'HUGE_PAGES', open('-object', 'memory-backend-memfd,id=m,size=1G,hugetlb=on'));
  t.false(existsSync(join(folder, 'never')));
});

function control(pager: Partial<Pager> | undefined, state: 'running' | 'starting' = 'running') {
  const handlers = pageControl({ state, pager: pager as Pager | undefined });
  return (command: string, args: Record<string, unknown> = {}): unknown => handlers[command]!(args);
}

test('page commands move frames, and say what keeps them', async (t) => {
  const asked: unknown[] = [];
  let result = 3;
  const ask = control({
    out: (gfn, count) => {
      asked.push(['out', gfn, count]);
      return result;
    },
    resident: (gfn) => {
      asked.push(['in', gfn]);
      return Promise.resolve();
    },
    limit: (bytes) => {
      asked.push(['limit', bytes]);
    },
    census: () => ({ states: [0, 0, 0, 0, 0, 0], pinned: 10_000 }),
  });
  t.is(ask('page-out', { gfn: 256, count: 4 }), 3);
  t.is(await ask('page-in', { gfn: 256, count: 2 }), 2);
  result = -Errno.EBUSY;
  refused(t, 'PINNED', () => ask('page-out', { gfn: 1, count: 1 }));
  result = -Errno.EAGAIN;
  refused(t, 'PAGER_BUSY', () => ask('page-out', { gfn: 1, count: 1 }));
  for (const bad of [{ gfn: -1, count: 1 }, { gfn: 1, count: 0 }, { gfn: 'x', count: 1 }, {}]) {
    refused(t, 'FRAMES', () => ask('page-out', bad));
    await refusedLater(t, 'FRAMES', async () => ask('page-in', bad));
  }
  refused(t, 'MAX_RESIDENT', () => ask('page-limit', { bytes: 64 * MIB }));
  ask('page-limit', { bytes: 128 * MIB });
  t.deepEqual(asked, [['out', 256, 4], ['in', 256], ['in', 257], ['out', 1, 1], ['out', 1, 1], ['limit', 128 * MIB]]);
});

test('a guest that is not paged, or not up yet, is said to be so', (t) => {
  refused(t, 'NOT_PAGED', () => control(undefined)('page-stat'));
  refused(t, 'NOT_UP', () => control(undefined, 'starting')('page-stat'));
});
