import test, { type ExecutionContext } from 'ava';
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The tree the sources are in: this file runs from dist/test/kvm/plugin. */
const root = fileURLToPath(new URL('../../../../', import.meta.url));
const execute = promisify(execFile);

/** Cases of the C++ program beside this file (harness.h), with what each shows. */
const cases: Record<string, string> = {
  // config_space.cc
  slot_found: 'the platform device takes slot 1e, and the access under which it was looked for is answered',
  first_access_is_a_write: 'a write under which the slot is looked for reaches its function, and only that',
  first_access_is_a_part: 'a word and a byte are read rightly from the first access on',
  first_access_is_a_string: 'a string read under which the slot is looked for is answered in full',
  slot_taken: 'the platform device goes down to the first free slot',
  no_slot: 'without a free slot there is one error and no platform device',
  address_latch: 'the address latch stays the guest’s, and 0xcf9 the reset port',
  identity: 'the platform device is 5853:0001 of class ff80, one function, read only where hardware is',
  bar_sizing: 'both BARs are sized and placed as firmware does it, by any width',
  ecam: 'q35’s window shows the device, with nothing in extended space',
  ecam_moves: 'q35’s window follows PCIEXBAR, written in any parts',
  ecam_length: 'q35’s window has the length PCIEXBAR says',
  no_ecam_on_pc: 'a pc machine has no window',
  reset_in_search: 'a reset in the middle of the search starts the search anew',
  // unplug.cc
  unplug_nothing: 'E92: an empty mask unplugs nothing',
  unplug_disks: 'E92: mask 1 hides disks of every class and nothing else',
  unplug_nics: 'E92: mask 2 hides all NICs, one behind a bridge too, and nothing else',
  unplug_nvme: 'E92: mask 8 hides NVMe and nothing else',
  unplug_auxiliary: 'E92: mask 4 alone hides nothing and beside 1 changes nothing',
  unplug_everything: 'E92: mask 0xFFFF hides disks, NICs and NVMe only; repeating it is harmless',
  unplug_q35: 'E92: on q35 AHCI and NICs behind any function’s root port go, in the ECAM window too',
  unplug_out_of_order: 'E92: a mask before product and build unplugs the listed devices',
  unplug_by_byte: 'E92: bytes and other widths at the unplug ports unplug nothing',
  unplug_ports_read: 'E92: the ports read as magic and version, in strings as well, and their neighbours are QEMU’s',
  unplug_string: 'E92: a string of masks unplugs what each names, once each, and ends',
  unplug_is_interrupted: 'E92: QEMU gets its thread in the middle of an unplug, which goes on afterwards',
  unplug_looping_buses: 'E92: bridges that name each other’s buses do not make the unplug long',
  unplug_other_vcpu: 'E92: unplugs by two vCPUs are both done',
  unplug_ended_by_reset: 'E92: a reset brings everything back',
  bar_both: 'E92: 1 at offset 4 of the I/O BAR unplugs disks and NICs',
  bar_one: 'E92: offset 8 of the I/O BAR unplugs disks or NICs',
  bar_nonsense: 'E92: other values and offsets of the I/O BAR unplug nothing',
  bar_moves: 'E92: the I/O BAR answers where it is placed and enabled, and nowhere else',
  // cpuid.cc
  cpuid_kvm_replaced: 'KVM’s leaves give way to Xen’s, with each vCPU’s own number; all other leaves stay',
  cpuid_hyperv_kept: 'Hyper-V’s leaves stay and Xen’s stand behind them',
  poll_left_to_the_shim: 'the kernel carries out polls, or leaves them to the shim, as it is told',
  cpuid_older_kernel: 'a kernel without event channels offers no upcall vector',
  cpuid_many: 'a long table of leaves has room for Xen’s',
  cpuid_refused: 'an error of KVM_SET_CPUID2 is QEMU’s to see',
  // irqfd.cc
  routes_appended: 'event channels’ routes stand behind QEMU’s table, which stays verbatim',
  routes_moved_and_unbound: 'a route moves to another vCPU and goes away, and its GSI is free again',
  routes_refused: 'a routing the kernel refuses leaves everything as it was',
  routes_limit: 'there are 1024 routes and no more; a reset takes all back',
  // ram.cc
  ram_ranges: 'RAM is told in joined ranges, with its holes, without private memory and SMRAM',
  ram_changes: 'RAM is told again only when it lies differently',
  ram_files: 'RAM in two files is told by file, each sent once',
  ram_watched: 'all of RAM’s mapping is watched for missing pages, once, and nothing else',
  own_pages: 'own pages take slots from the top and give them back',
  own_pages_limit: 'there are 128 own pages in the guest and no more; a reset takes all away',
  // interpose.cc
  extensions_reduced: 'QEMU is told of fewer slots and routes, and of no coalesced port writes',
  extensions_before_vm: 'slots are kept although QEMU asks for their number before it makes the VM',
  no_shim: 'without a shim nothing is changed',
  other_descriptors: 'other descriptors and requests go straight on',
  vcpu_numbers: 'vCPUs are numbered in order of creation, for KVM and for the shim',
  reset_seen_once: 'a reset is the first vCPU’s reset registers after it has run, once',
  reset_nobody_asked_for: 'a reset that neither the guest nor the shim asked for is a warning in the log',
  triple_fault: 'a triple fault is a warning that says where',
  // any.cc
  any_stubs: 'any KVM: the call stubs of Linux are recognised, with their returns in either form',
  any_lookalikes: 'any KVM: bytes that are nearly call stubs are none',
  any_page: 'any KVM: the hypercall page has 128 stubs, and none for iret',
  any_filter: 'any KVM: QEMU’s MSR filter stands behind ours, bitmaps and all',
  any_filter_full: 'any KVM: an MSR filter without room is refused',
  any_replace: 'any KVM: when the guest reads EFER its stubs are replaced, six bytes and not one more',
  any_replace_twice: 'any KVM: two pairs of stubs are none',
  any_kexec: 'any KVM: after the guest has let go of Xen the next kernel’s stubs are replaced, too',
  any_calls: 'any KVM: a hypercall of ring 0 from a stub reaches the shim and is answered in RAX; any other port write is QEMU’s',
  any_calls_32: 'any KVM: a hypercall of 32-bit code has its arguments in other registers',
  any_hypercall_msr: 'any KVM: the hypercall page is written where the guest wants it, and not outside its memory',
  any_events: 'any KVM: an event sets bits and interrupts once, unless masked or pending',
  any_sends: 'any KVM: sends go to eventfds and ports without the shim, and eventfds raise ports',
  any_timers: 'any KVM: the singleshot timer rings at its time, at once for the past, not when stopped',
  any_clock: 'any KVM: KVM keeps the time in the vcpu_info, and the wall clock is in shared_info',
  any_reset: 'any KVM: a reset forgets everything',
  any_restored: 'any KVM: a guest that puts its call instructions back is stopped with a line',
  any_dead: 'any KVM: a guest that halts for good before its first hypercall is stopped with a line',
  any_global_vector: 'any KVM: a guest that wants one vector for all vCPUs is stopped with a line',
  // vcpu.cc
  work_outside: 'work on a vCPU outside the guest is done at once',
  work_inside: 'work on a vCPU in the guest is done outside it, again and again',
  work_is_the_threads: 'work on a vCPU in the guest is done by its thread',
  interrupted: 'EINTR and other errors of KVM_RUN are QEMU’s to see',
  other_exits: 'exits that are not Xen’s reach QEMU as they are',
  power: 'poweroff and crash take the vCPU out of the guest with the exit that QEMU knows, once',
  power_reset: 'only the first vCPU carries out a reset',
  power_hold: 'a held machine enters the guest no more, gives QEMU its threads, and is let go by a reset',
  power_while_waiting: 'a vCPU that waits for its hypercall’s answer is powered off',
  hypercall_interrupted: 'QEMU gets its thread while a hypercall waits, and the answer is not lost',
};

function unavailable(): string | undefined {
  try {
    execFileSync('c++', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'no c++: install g++';
  }
}

const reason = unavailable();
if (reason !== undefined) console.log(`the plugin without KVM skipped: ${reason}`);
const plugin = reason === undefined ? test.serial : test.serial.skip;

let folder = '';
let program = '';

test.before(async (t) => {
  if (reason !== undefined) return;
  t.timeout(600_000);
  folder = mkdtempSync(join(tmpdir(), 'xenshim-plugin-'));
  program = join(folder, 'plugin');
  const sources = ['kvm/plugin', 'kvm/plugin/any', 'test/kvm/plugin'].flatMap((from) =>
    readdirSync(join(root, from)).filter((name) => name.endsWith('.cc')).map((name) => join(root, from, name)),
  );
  const objects = sources.map((source, i) => join(folder, `${i}-${basename(source)}.o`));
  let next = 0;
  const compile = async (): Promise<void> => {
    for (let i = next++; i < sources.length; i = next++)
      await execute('c++', ['-std=gnu++20', '-O0', '-Wall', '-Wextra', '-Wno-missing-field-initializers',
        `-I${root}kvm`, '-c', '-o', objects[i]!, sources[i]!]);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, compile));
  await execute('c++', ['-pthread', '-o', program, ...objects]);
});

test.after.always(() => {
  if (folder !== '') rmSync(folder, { recursive: true });
});

plugin('every case of the program has a title', (t) => {
  const names = execFileSync(program, { encoding: 'utf8' }).trim().split('\n');
  t.deepEqual(names.sort(), Object.keys(cases).sort());
});

async function run(t: ExecutionContext, name: string): Promise<void> {
  try {
    await execute(program, [name], { timeout: 60_000 });
    t.pass();
  } catch (error) {
    t.fail(`${name}: ${(error as { stderr?: string }).stderr ?? ''} ${(error as Error).message}`);
  }
}

for (const [name, title] of Object.entries(cases)) plugin(title, run, name);
