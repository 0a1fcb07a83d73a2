import test from 'ava';
import { check } from '../../cli/check/check.js';
import type { Host } from '../../cli/check/host.js';
import { kvmMode, type KvmProbe } from '../../cli/check/kvm.js';
import { report } from '../../cli/check/report.js';
import { KvmXenCap } from '../../kvm/bridge.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { refused, refusedLater } from './refused.js';

const ALL = Object.values(KvmXenCap).reduce((bits: number, bit) => bits | bit, 0);

const probe = (xen: number, lacks: readonly string[] = []): KvmProbe => ({ xen, lacks });
const OLD = ['MSR filters (Linux 5.10)'];

/** A host that has everything, but for what is given. */
function host(given: Partial<Host> = {}): Host {
  return {
    kvm: () => probe(ALL),
    uring: () => Promise.resolve(undefined),
    memfd: () => Promise.resolve(undefined),
    tap: () => ({ features: 0x4000, admin: true, plain: false }),
    userfaultfd: () => 'device',
    qemu: () => Promise.resolve({ path: '/usr/bin/qemu-system-x86_64', version: [10, 0] }),
    ...given,
  };
}

async function run(argv: string[], on: Host): Promise<{ status: number; output: string }> {
  let output = '';
  const status = await check(argv, on, (text) => {
    output += text;
  });
  return { status, output };
}

test('a host with everything runs guests in mode kvm-xen, and names each bit of KVM_CAP_XEN_HVM', async (t) => {
  const { status, output } = await run([], host());
  t.is(status, 0);
  t.regex(output, /^mode kvm-xen/m);
  for (const name of Object.keys(KvmXenCap)) t.regex(output, new RegExp(`^ok +kvm-xen ${name} `, 'm'));
  t.notRegex(output, /→/);
});

for (const [name, kvm, cure] of [
  ['no /dev/kvm', { ...probe(0), error: 'ENOENT' }, /firmware/],
  ['no permission for /dev/kvm', { ...probe(0), error: 'EACCES' }, /group kvm/],
  ['an old KVM without Xen', probe(0, OLD), /CONFIG_KVM_XEN/],
  ['an old KVM whose Xen part cannot raise events', probe(0x1f, OLD), /5\.19/],
] as const) {
  test(`${name}: no mode, the cure, exit status 3`, async (t) => {
    const { status, output } = await run([], host({ kvm: () => kvm }));
    t.is(status, 3);
    t.regex(output, /^mode none: /m);
    t.regex(output, cure);
  });
}

for (const [name, kvm] of [['without Xen', probe(0)], ['whose Xen part cannot raise events', probe(0x1f)]] as const) {
  test(`a KVM ${name} runs guests in mode any-kvm, and what it costs is said`, async (t) => {
    const { status, output } = await run([], host({ kvm: () => kvm }));
    t.is(status, 0);
    t.regex(output, /^mode any-kvm: .*system calls.*Linux 6\.0/m);
    t.notRegex(output, /^MISSING/m);
    t.regex(output, /^ok +any-kvm /m);
  });
}

test('a bit that only costs a detour is absent, and guests run all the same', async (t) => {
  const { mode, ok, findings } = await report(host({ kvm: () => probe(ALL & ~KvmXenCap.EVTCHN_2LEVEL) }), 'qemu');
  t.is(mode, 'kvm-xen');
  t.true(ok);
  const bit = findings.find(({ name }) => name === 'kvm-xen EVTCHN_2LEVEL');
  t.false(bit?.ok);
  t.false(bit?.needed);
  t.truthy(bit?.cure);
});

for (const [name, given] of [
  ['qemu', { qemu: () => Promise.reject(new OperatorError('QEMU_TOO_OLD', '/usr/bin/qemu is QEMU 6.2', 'use QEMU 7.2 or newer')) }],
  ['io_uring', { uring: () => Promise.resolve('EPERM') }],
  ['memfd', { memfd: () => Promise.resolve('ENOSYS') }],
] as const) {
  test(`without ${name} no guest can be run, whatever the mode`, async (t) => {
    const { mode, ok, findings } = await report(host(given), 'qemu');
    t.is(mode, 'kvm-xen');
    t.false(ok);
    const finding = findings.find((each) => each.name === name);
    t.false(finding?.ok);
    t.truthy(finding?.cure);
  });
}

test('an error of ours while looking at QEMU is not taken for a missing QEMU', async (t) => {
  const broken = host({ qemu: () => Promise.reject(new TypeError('no such thing')) });
  await t.throwsAsync(report(broken, 'qemu'), { instanceOf: TypeError });
});

for (const [name, tap, detail] of [
  ['no driver', { error: 'ENOENT', features: 0, admin: true, plain: false }, /no \/dev\/net\/tun/],
  ['no permission', { error: 'EACCES', features: 0, admin: false, plain: false }, /EACCES/],
  ['no virtio-net headers', { features: 0x1000, admin: true, plain: false }, /IFF_VNET_HDR/],
] as const) {
  test(`taps with ${name} are absent with a cure, and guests without a network run`, async (t) => {
    const { ok, findings } = await report(host({ tap: () => tap }), 'qemu');
    t.true(ok);
    const finding = findings.find((each) => each.name === 'tap');
    t.false(finding?.ok);
    t.regex(finding?.detail ?? '', detail);
    t.truthy(finding?.cure);
  });
}

test('who may not make taps can adopt them', async (t) => {
  const { findings } = await report(host({ tap: () => ({ features: 0x4000, admin: false, plain: false }) }), 'qemu');
  t.regex(findings.find(({ name }) => name === 'tap')?.detail ?? '', /CAP_NET_ADMIN/);
});

test('taps that take no request which is not to wait serve all the same, and it is said how', async (t) => {
  for (const [plain, how] of [[true, /plain system calls/], [false, /io_uring/]] as const) {
    const { ok, findings } = await report(host({ tap: () => ({ features: 0x4000, admin: true, plain }) }), 'qemu');
    t.true(ok);
    const tap = findings.find(({ name }) => name === 'tap');
    t.true(tap?.ok);
    t.regex(tap?.detail ?? '', how);
  }
});

test('userfaultfd is said to be for --page-to alone, there or not', async (t) => {
  for (const way of ['device', 'sysctl', 'privilege', undefined] as const) {
    const { ok, findings } = await report(host({ userfaultfd: () => way }), 'qemu');
    t.true(ok);
    const finding = findings.find(({ name }) => name === 'userfaultfd');
    t.is(finding?.ok, way !== undefined);
    t.regex(finding?.detail ?? '', /--page-to/);
  }
});

test('every finding that is not ok has a cure, and no other', async (t) => {
  const { findings } = await report(host({
    kvm: () => probe(0, OLD),
    uring: () => Promise.resolve('ENOSYS'),
    memfd: () => Promise.resolve('ENOSYS'),
    tap: () => ({ error: 'ENOENT', features: 0, admin: false, plain: false }),
    userfaultfd: () => undefined,
  }), 'qemu');
  t.is(findings.filter(({ ok }) => ok).length, 1);
  for (const { ok, cure } of findings) t.is(cure === undefined, ok);
});

test('--json prints the report as one object, with the same exit status', async (t) => {
  const on = host({ uring: () => Promise.resolve('EPERM') });
  const { status, output } = await run(['--json'], on);
  t.is(status, 3);
  t.deepEqual(JSON.parse(output), JSON.parse(JSON.stringify(await report(on, 'qemu-system-x86_64'))));
});

test('--qemu names the QEMU to look at', async (t) => {
  const asked: string[] = [];
  await run(['--qemu', '/opt/qemu/bin/qemu'], host({
    qemu: (program) => {
      asked.push(program);
      return Promise.resolve({ path: program, version: undefined });
    },
  }));
  t.deepEqual(asked, ['/opt/qemu/bin/qemu']);
});

test('--help prints how it is used, and an unknown option is refused', async (t) => {
  t.regex((await run(['--help'], host())).output, /^usage: xenshim check/);
  await refusedLater(t, 'USAGE', () => check(['--jsn'], host(), () => {}));
});

test('xenshim run chooses the mode by the same rules, and what is asked for is not exchanged', (t) => {
  t.is(kvmMode(probe(ALL)), 'kvm-xen');
  t.is(kvmMode(probe(ALL, OLD), 'xen'), 'kvm-xen');
  t.is(kvmMode(probe(ALL), 'any'), 'any-kvm');
  t.is(kvmMode(probe(0)), 'any-kvm');
  t.is(kvmMode(probe(KvmXenCap.INTERCEPT_HCALL)), 'any-kvm');
  refused(t, 'NO_KVM_XEN', () => kvmMode(probe(0), 'xen'), 3);
  t.regex(refused(t, 'OLD_KVM_XEN', () => kvmMode(probe(KvmXenCap.INTERCEPT_HCALL), 'xen'), 3), /SHARED_INFO and EVTCHN_SEND/);
  t.regex(refused(t, 'OLD_KVM', () => kvmMode(probe(ALL, OLD), 'any'), 3), /MSR filters/);
  refused(t, 'NO_KVM', () => kvmMode({ ...probe(0), error: 'ENOENT' }), 3);
});
