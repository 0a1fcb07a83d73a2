import test from 'ava';
import { endedInTheLab, isLost, lostByTheLab, moduleRange, parseRegisters, vcpuStates } from '../../../cli/demo/lost-guest.js';

const modules = [
  'kvm_amd 221184 2 - Live 0xffffffffc05d2000',
  'kvm 1396736 1 kvm_amd, Live 0xffffffffc0462000',
].join('\n');

/** As QEMU 10 printed it for a guest the software CPU had lost, and for the other vCPU, which was idle. */
const lostVcpu = `CPU#0
RAX=0000000143459000 RBX=00000004818e0ea0 RCX=00000000c5372a24 RDX=ffffd299c0003e08
RSI=0000000000000000 RDI=0000000000000008 RBP=0000000000000000 RSP=ffffc900008af938
RIP=ffffffffc05ed040 RFL=00010246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
`;
const idleVcpu = `CPU#1
RSI=0000000000000001 RDI=000000000004b94c RBP=ffff8d34812d4c80 RSP=ffffd299c00c7ed8
RIP=ffffffff9830356f RFL=00000212 [----A--] CPL=0 II=0 A20=1 SMM=0 HLT=1
`;
const kvmAmd = moduleRange(modules, 'kvm_amd')!;

test('a vCPU with code and stack of the lab host is a lost one, among others that are well', (t) => {
  t.true(isLost(parseRegisters(idleVcpu + lostVcpu), kvmAmd));
});

test('a guest whose vCPUs stand in its own kernel is not lost, however it hangs', (t) => {
  t.false(isLost(parseRegisters(idleVcpu), kvmAmd));
  t.false(isLost([], kvmAmd));
});

test('an address of the module alone, or a stack alone, could be the guest\'s and proves nothing', (t) => {
  const [lost] = parseRegisters(lostVcpu);
  const [idle] = parseRegisters(idleVcpu);
  t.false(isLost([{ rip: lost!.rip, rsp: idle!.rsp }], kvmAmd));
  t.false(isLost([{ rip: idle!.rip, rsp: lost!.rsp }], kvmAmd));
});

test('a module\'s range ends where the next may begin; hidden addresses and other modules give none', (t) => {
  t.deepEqual(kvmAmd, { start: 0xffff_ffff_c05d_2000n, end: 0xffff_ffff_c060_8000n });
  t.is(moduleRange(modules, 'kvm_intel'), undefined);
  t.is(moduleRange('kvm_amd 221184 2 - Live 0x0000000000000000', 'kvm_amd'), undefined);
});

test('outside the lab no guest counts as lost', (t) => {
  t.false(lostByTheLab('CPU#0\nRIP=ffffffffc05d3000 RSP=ffffc90000100000'));
});

test('a monitor that is not there says nothing', async (t) => {
  t.is(await vcpuStates('/nonexistent/monitor.sock'), '');
});

test.serial('a triple fault counts as the lab’s in the lab only', (t) => {
  const before = process.env['XENSHIM_LAB'];
  const log = '23:26:12.565 info  unplugged 00:1f.2\n23:26:14.041 warn  vCPU 0: triple fault at rip fff0, rsp 0: the machine is reset\n';
  try {
    process.env['XENSHIM_LAB'] = '1';
    t.is(endedInTheLab(log), 'a vCPU ended in a triple fault');
    t.is(
      endedInTheLab('qemu-system-x86_64: Putting registers after init: Failed to set special registers: Invalid argument\n'),
      'KVM refuses the registers it gave',
    );
    t.is(endedInTheLab('23:26:12.565 info  unplugged 00:1f.2\n'), undefined);
    delete process.env['XENSHIM_LAB'];
    t.is(endedInTheLab(log), undefined);
  } finally {
    if (before === undefined) delete process.env['XENSHIM_LAB'];
    else process.env['XENSHIM_LAB'] = before;
  }
});
