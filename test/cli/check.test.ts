import test from 'ava';
import { check } from '../../cli/check/check.js';
import type { Host } from '../../cli/check/host.js';
import { kvmProblem } from '../../cli/check/kvm.js';
import { report } from '../../cli/check/report.js';
import { KvmXenCap } from '../../kvm/bridge.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { refused, refusedLater } from './refused.js';

const ALL = Object.values(KvmXenCap).reduce((bits: number, bit) => bits | bit, 0);

/** A host that has everything, but for what is given. */
function host(given: Partial<Host> = {}): Host {
  return {
    kvm: () => ({ xen: ALL }),
    uring: () => Promise.resolve(undefined),
    memfd: () => Promise.resolve(undefined),
    tap: () => ({ features: 0x4000, admin: true }),
    userfaultfd: () => 'device',
    qemu: () => ({ path: '/usr/bin/qemu-system-x86_64', version: [10, 0] }),
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
  ['no /dev/kvm', { error: 'ENOENT', xen: 0 }, /firmware/],
  ['no permission for /dev/kvm', { error: 'EACCES', xen: 0 }, /group kvm/],
  ['a KVM without Xen', { xen: 0 }, /CONFIG_KVM_XEN/],
  ['a KVM whose Xen part cannot raise events', { xen: 0x1f }, /5\.19/],
] as const) {
  test(`${name}: no mode, the cure, exit status 3, and any-KVM mode is said not to be there`, async (t) => {
    const { status, output } = await run([], host({ kvm: () => kvm }));
    t.is(status, 3);
    t.regex(output, /^mode none: .*any KVM is not there yet/m);
    t.regex(output, cure);
  });
}

test('a bit that only costs a detour is absent, and guests run all the same', async (t) => {
  const { mode, ok, findings } = await report(host({ kvm: () => ({ xen: ALL & ~KvmXenCap.EVTCHN_2LEVEL }) }), 'qemu');
  t.is(mode, 'kvm-xen');
  t.true(ok);
  const bit = findings.find(({ name }) => name === 'kvm-xen EVTCHN_2LEVEL');
  t.false(bit?.ok);
  t.false(bit?.needed);
  t.truthy(bit?.cure);
});

for (const [name, given] of [
  ['qemu', { qemu: () => { throw new OperatorError('QEMU_TOO_OLD', '/usr/bin/qemu is QEMU 6.2', 'use QEMU 7.2 or newer'); } }],
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
  const broken = host({ qemu: () => { throw new TypeError('no such thing'); } });
  await t.throwsAsync(report(broken, 'qemu'), { instanceOf: TypeError });
});

for (const [name, tap, detail] of [
  ['no driver', { error: 'ENOENT', features: 0, admin: true }, /no \/dev\/net\/tun/],
  ['no permission', { error: 'EACCES', features: 0, admin: false }, /EACCES/],
  ['no virtio-net headers', { features: 0x1000, admin: true }, /IFF_VNET_HDR/],
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
  const { findings } = await report(host({ tap: () => ({ features: 0x4000, admin: false }) }), 'qemu');
  t.regex(findings.find(({ name }) => name === 'tap')?.detail ?? '', /CAP_NET_ADMIN/);
});

test('userfaultfd is said to be of no use yet, there or not', async (t) => {
  for (const way of ['device', 'sysctl', 'privilege', undefined] as const) {
    const { ok, findings } = await report(host({ userfaultfd: () => way }), 'qemu');
    t.true(ok);
    const finding = findings.find(({ name }) => name === 'userfaultfd');
    t.is(finding?.ok, way !== undefined);
    t.regex(finding?.detail ?? '', /yet/);
  }
});

test('every finding that is not ok has a cure, and no other', async (t) => {
  const { findings } = await report(host({
    kvm: () => ({ xen: 0 }),
    uring: () => Promise.resolve('ENOSYS'),
    memfd: () => Promise.resolve('ENOSYS'),
    tap: () => ({ error: 'ENOENT', features: 0, admin: false }),
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
      return { path: program, version: undefined };
    },
  }));
  t.deepEqual(asked, ['/opt/qemu/bin/qemu']);
});

test('--help prints how it is used, and an unknown option is refused', async (t) => {
  t.regex((await run(['--help'], host())).output, /^usage: xenshim check/);
  await refusedLater(t, 'USAGE', () => check(['--jsn'], host(), () => {}));
});

test('xenshim run refuses a host by the same rules', (t) => {
  const thrown = (xen: number) => () => {
    const problem = kvmProblem({ xen });
    if (problem !== undefined) throw problem;
  };
  t.notThrows(thrown(ALL));
  refused(t, 'NO_KVM_XEN', thrown(0), 3);
  t.regex(refused(t, 'OLD_KVM_XEN', thrown(KvmXenCap.INTERCEPT_HCALL), 3), /SHARED_INFO and EVTCHN_SEND/);
});
