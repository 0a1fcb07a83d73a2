import test from 'ava';

import { parseDisk } from '../../../cli/run/disk-option.js';
import { LOG_FORMATS, LOG_LEVELS, parseRun } from '../../../cli/run/options.js';
import { refused } from '../refused.js';

const QEMU = ['--', 'qemu-system-x86_64'];

test('a QEMU command alone is enough, and everything else has its default', (t) => {
  const options = parseRun([...QEMU, '-m', '1G', '--', '--name', 'x'])!;
  t.deepEqual(options, {
    name: `guest-${process.pid}`,
    disks: [],
    vifs: [],
    backends: [],
    consoles: [],
    domain: {
      eventChannels: '2l',
      maxGrantVersion: 1,
      onShutdown: {
        poweroff: 'destroy', reboot: 'restart', crash: 'panic', watchdog: 'panic', softReset: 'soft-reset',
      },
    },
    kvmMode: 'auto',
    memory: {},
    logLevel: 'info',
    logFormat: 'text',
    qemu: ['qemu-system-x86_64', '-m', '1G', '--', '--name', 'x'],
  });
});

test('every option is understood, with a space or an equals sign', (t) => {
  const options = parseRun([
    '--name=web-1', '--disk', '/a.img', '--disk=/b.iso,cdrom', '--vif', 'tap=tap0', '--vif=tap=tap1,mac=00:16:3e:00:00:01',
    '--console', '--console=log:/var/log/web-1', '--log-level', 'debug', '--log-format=json', ...QEMU,
  ])!;
  t.is(options.name, 'web-1');
  t.deepEqual(options.disks.map(({ file }) => file), ['/a.img', '/b.iso']);
  t.deepEqual(options.vifs, [{ link: { kind: 'tap', name: 'tap0' } }, { link: { kind: 'tap', name: 'tap1' }, mac: '00:16:3e:00:00:01' }]);
  t.deepEqual(options.consoles, [{ to: 'stdio' }, { to: 'log', file: '/var/log/web-1' }]);
  t.is(options.logLevel, 'debug');
  t.is(options.logFormat, 'json');
});

test('what Xen offers and what follows a shutdown can be chosen, and nothing that is neither', (t) => {
  const { domain } = parseRun([
    '--event-channels=fifo', '--grant-version', '2', '--on-poweroff=preserve', '--on-crash=restart',
    '--on-watchdog=destroy', '--on-soft-reset=restart', ...QEMU,
  ])!;
  t.deepEqual(domain, {
    eventChannels: 'fifo',
    maxGrantVersion: 2,
    onShutdown: {
      poweroff: 'preserve', reboot: 'restart', crash: 'restart', watchdog: 'destroy', softReset: 'restart',
    },
  });
  for (const wrong of ['--event-channels=3l', '--grant-version=3', '--on-crash=panic', '--on-reboot=soft-reset']) {
    refused(t, 'USAGE', () => parseRun([wrong, ...QEMU]));
  }
});

test('the way to get at hypercalls can be chosen', (t) => {
  t.is(parseRun([...QEMU])!.kvmMode, 'auto');
  t.is(parseRun(['--kvm-mode', 'any', ...QEMU])!.kvmMode, 'any');
  refused(t, 'USAGE', () => parseRun(['--kvm-mode=kvm-xen', ...QEMU]));
});

test('--console without a value does not take the next argument for one', (t) => {
  const options = parseRun(['--console', '--name', 'a', ...QEMU])!;
  t.deepEqual(options.consoles, [{ to: 'stdio' }]);
  t.is(options.name, 'a');
});

test('help wins over what is missing', (t) => {
  t.is(parseRun(['--help']), undefined);
  t.is(parseRun(['-h', '--name', 'x', '--']), undefined);
});

test('QEMU may have options of our names', (t) => {
  t.deepEqual(parseRun([...QEMU, '--help', '-name', 'x'])!.qemu, ['qemu-system-x86_64', '--help', '-name', 'x']);
});

test('a command line without a QEMU command is refused', (t) => {
  t.regex(refused(t, 'USAGE', () => parseRun([])), /no QEMU command/);
  t.regex(refused(t, 'USAGE', () => parseRun(['--name', 'x', '--'])), /no QEMU command/);
});

test('a QEMU command without -- is refused and named', (t) => {
  t.regex(refused(t, 'USAGE', () => parseRun(['qemu-system-x86_64'])), /'qemu-system-x86_64' stands before --/);
  refused(t, 'USAGE', () => parseRun(['qemu-system-x86_64', '-m', '1G', ...QEMU]));
});

test('unknown options, missing values and values where none belong are refused in one line', (t) => {
  t.regex(refused(t, 'USAGE', () => parseRun(['--dsk', 'x', ...QEMU])), /--dsk/);
  t.regex(refused(t, 'USAGE', () => parseRun(['--disk', ...QEMU])), /--disk/);
  t.regex(refused(t, 'USAGE', () => parseRun(['--disk', '--vif', 'tap=a', ...QEMU])), /--disk/);
  t.regex(refused(t, 'USAGE', () => parseRun(['--name', '--console', ...QEMU])), /--name/);
  t.regex(refused(t, 'USAGE', () => parseRun(['--help=yes', ...QEMU])), /--help/);
});

test('a name that is no file name is refused', (t) => {
  for (const name of ['', '.', '..', '-x', 'a/b', '../x', 'a b', 'ä', 'a\nb', 'x'.repeat(65)]) {
    t.throws(() => parseRun([`--name=${name}`, ...QEMU]), { code: 'USAGE' }, name);
  }
  for (const name of ['a', 'web-1.example_org', '0', 'x'.repeat(64)]) {
    t.is(parseRun([`--name=${name}`, ...QEMU])!.name, name);
  }
});

test('log levels and formats are those of the list, and the refusal lists them', (t) => {
  for (const level of LOG_LEVELS) t.is(parseRun(['--log-level', level, ...QEMU])!.logLevel, level);
  for (const format of LOG_FORMATS) t.is(parseRun(['--log-format', format, ...QEMU])!.logFormat, format);
  t.regex(refused(t, 'USAGE', () => parseRun(['--log-level', 'loud', ...QEMU])), /trace, debug, info, warn, error, silent/);
  t.regex(refused(t, 'USAGE', () => parseRun(['--log-format', 'xml', ...QEMU])), /text, json/);
  refused(t, 'USAGE', () => parseRun(['--log-level', 'INFO', ...QEMU]));
});

test('a console goes to this terminal or into a file', (t) => {
  refused(t, 'USAGE', () => parseRun(['--console=pty', ...QEMU]));
  refused(t, 'USAGE', () => parseRun(['--console=log:', ...QEMU]));
  t.deepEqual(parseRun(['--console=stdio', ...QEMU])!.consoles, [{ to: 'stdio' }]);
});

test('a disk is read-write unless it says ro or is a CD-ROM', (t) => {
  t.deepEqual(parseDisk('/a.img'), { file: '/a.img', readonly: false, cdrom: false });
  t.deepEqual(parseDisk('/a.img,ro'), { file: '/a.img', readonly: true, cdrom: false });
  t.deepEqual(parseDisk('/a.iso,cdrom'), { file: '/a.iso', readonly: true, cdrom: true });
  t.deepEqual(parseDisk('/a.img,persistent'), { file: '/a.img', readonly: false, cdrom: false, persistent: true });
  t.deepEqual(parseDisk('/a.img,direct'), { file: '/a.img', readonly: false, cdrom: false, direct: true });
  t.deepEqual(parseDisk('/a.iso,cdrom,ro'), { file: '/a.iso', readonly: true, cdrom: true });
});

test('options of a disk stand after its file in any order', (t) => {
  t.deepEqual(parseDisk('a,sector-size=4096,discard=off,queues=8,vdev=xvdc,removable'), {
    file: 'a', readonly: false, cdrom: false, sectorSize: 4096, discard: false, queues: 8,
    vdev: { name: 'xvdc', number: 51744 }, removable: true,
  });
  t.deepEqual(parseDisk('a,discard=on'), { file: 'a', readonly: false, cdrom: false });
  for (const text of ['a,sector-size=1024', 'a,sector-size', 'a,queues=0', 'a,queues=9', 'a,queues=', 'a,vdev=xvda1', 'a,discard=no', 'a,removable=1']) {
    refused(t, 'USAGE', () => parseDisk(text));
  }
});

test('how many queues a thread of a disk serves is said for all disks or for one', (t) => {
  t.is(parseDisk('a,queues=4,queues-per-worker=2').queuesPerWorker, 2);
  const { queuesPerWorker, disks } = parseRun(['--queues-per-worker', '2', '--disk=a', '--disk=b,queues-per-worker=1', ...QEMU])!;
  t.is(queuesPerWorker, 2);
  t.deepEqual(disks.map((disk) => disk.queuesPerWorker), [undefined, 1]);
  for (const value of ['0', '9', '', '1.5', 'x']) {
    refused(t, 'USAGE', () => parseDisk(`a,queues-per-worker=${value}`));
    refused(t, 'USAGE', () => parseRun([`--queues-per-worker=${value}`, ...QEMU]));
  }
});

test('a disk is the very file that was named, whatever its name looks like', (t) => {
  for (const name of ['a=b.img', '/x/file=y', 'ro', 'cdrom', 'ro=on', 'file', '{"file":"x"}', ' a ', '-']) {
    t.is(parseDisk(name).file, name);
    t.deepEqual(parseDisk(`${name},ro`), { file: name, readonly: true, cdrom: false });
  }
  t.is(parseDisk('a,,b.img').file, 'a,b.img');
  t.deepEqual(parseDisk('a,,,ro'), { file: 'a,', readonly: true, cdrom: false });
});

test('a disk may be in any format and at any place QEMU knows, and JSON keeps its commas', (t) => {
  t.deepEqual(parseDisk('a,ro,format=qcow2'), { file: 'a', readonly: true, cdrom: false, format: 'qcow2' });
  t.deepEqual(parseDisk('nbd://host:10809/x,ro'), { file: 'nbd://host:10809/x', readonly: true, cdrom: false });
  const json = 'json:{"driver":"blkdebug","image":{"driver":"file","filename":"a,}b"}}';
  t.is(parseDisk(json).file, json);
  t.deepEqual(parseDisk(`${json},ro,queues=2`), { file: json, readonly: true, cdrom: false, queues: 2 });
  refused(t, 'USAGE', () => parseDisk('a,format='));
});

test('a disk without a file and unknown disk options are refused', (t) => {
  for (const text of ['', ',ro']) t.regex(refused(t, 'USAGE', () => parseDisk(text)), /names no file/);
  for (const text of ['a,rw', 'a,file', 'a,ro=off', 'a,', 'a,b.img', 'a,format']) {
    t.regex(refused(t, 'USAGE', () => parseDisk(text)), /no disk option/);
  }
});

test('two vifs cannot share a tap', (t) => {
  refused(t, 'USAGE', () => parseRun(['--vif=tap=a', '--vif=tap=b', '--vif=tap=a,mac=00:16:3e:00:00:01', ...QEMU]));
});
