/** What every Linux guest is asked to do besides the demo's steps. */
import { readFileSync } from 'node:fs';
import { ask } from '../../cli/control/client.js';
import type { GuestRun } from '../../cli/demo/guest-run.js';
import { HOST_ADDRESS } from '../../cli/demo/host-network.js';
import { check } from '../../cli/demo/steps.js';
import { SINK_PORT, SOURCE_PORT, TRANSFER_BYTES } from '../../cli/demo/tcp-peer.js';

const bootId = 'cat /proc/sys/kernel/random/boot_id';

/** `reboot` inside the guest; then it comes up again on the same disk. */
export async function rebootStep({ console }: GuestRun): Promise<string> {
  const before = await console.output(bootId);
  console.type('reboot');
  await console.loginAgain();
  const after = await console.output(bootId);
  check(before !== after, 'the boot id is the same: it did not reboot');
  const clean = await console.output('cat /sys/hypervisor/type; ping -c 1 192.0.2.1 > /dev/null && echo reachable');
  check(clean === 'xen\nreachable', `after the reboot: ${clean}`);
  return 'rebooted from inside; Xen, disk and network are back';
}

/** kexec, which Linux does on Xen through a soft reset: another kernel in the same machine, without firmware. */
export async function kexecStep(run: GuestRun): Promise<string> {
  const { console, options: { vcpus } } = run;
  const before = await console.output(bootId);
  const loaded = '/boot/vmlinuz-$(uname -r) --initrd=/boot/initrd.img-$(uname -r)';
  await console.output(`kexec -l ${loaded} --append="$(cat /proc/cmdline) again" 2>&1`, 300);
  console.type('sync; mount -o remount,ro /; kexec -e');
  await console.loginAgain();
  const [after, again, ...rest] = (await console.output(
    `${bootId}; grep -c " again$" /proc/cmdline; dmesg | grep -m1 -o "Hypervisor detected: .*"; nproc; ` +
    `ping -c 1 ${HOST_ADDRESS} > /dev/null && echo reachable`)).split('\n');
  check(before !== after && again === '1', 'the same kernel goes on, or one that the firmware started');
  check(rest.join() === `Hypervisor detected: Xen HVM,${vcpus},reachable`, `after kexec: ${rest.join(' | ')}`);
  check(readFileSync(run.log, 'utf8').includes('soft reset: the guest starts another kernel'), 'the log knows of no soft reset');
  return `kexec through a soft reset: new kernel, ${vcpus} vCPUs, disk and network are back`;
}

/** Every vCPU but the first goes and comes, three times over. */
export async function cpusStep({ console, options: { vcpus } }: GuestRun): Promise<string> {
  const others = Array.from({ length: vcpus - 1 }, (_, i) => i + 1);
  const set = (value: 0 | 1): string =>
    others.map((cpu) => `echo ${value} > /sys/devices/system/cpu/cpu${cpu}/online; nproc`).join('; ');
  const counts = (await console.output(`for i in 1 2 3; do ${set(0)}; ${set(1)}; done`)).split('\n').join(' ');
  const round = [...others.map((cpu) => vcpus - cpu), ...others.map((cpu) => cpu + 1)].join(' ');
  check(counts === [round, round, round].join(' '), `CPUs there were: ${counts}`);
  // Each works again: a process bound to it runs, and its timer wakes a sleep.
  const each = await console.output(`for i in ${[0, ...others].join(' ')}; do taskset -c $i sleep 0.1 && echo $i; done`);
  check(each === [0, ...others].join('\n'), `processes ran on ${each}`);
  return `three times offline and online; CPUs there were: ${round}`;
}

/** The distribution's xenstore tools inside the guest: it reads what is its own, and writes what the host then reads. */
export async function xenstoreStep({ console, options: { name } }: GuestRun): Promise<string> {
  const value = `from-inside-${process.pid}`;
  const [seen, devices, refusal] = (await console.output(
    `xenstore-read name; xenstore-list device | sort | tr '\\n' ' '; echo; xenstore-write data/hello ${value}; ` +
    `xenstore-write /local/domain/0/hello x 2> /dev/null && echo written || echo refused`)).split('\n');
  check(seen === name, `the guest's name in its xenstore: ${seen}`);
  check(/\bvbd vif\b/.test(devices ?? ''), `its devices: ${devices}`);
  check(refusal === 'refused', `writing to dom0's part of the store: ${refusal}`);
  const read = await ask(name, 'xenstore-read', { path: 'data/hello' });
  check(read === value, `the host reads ${String(read)}`);
  return `read its name and devices (${devices?.trim()}), wrote a key the host reads; dom0's part is refused`;
}

/**
 * Disk and network at once: a file is copied, and read back from the disk; it goes out over TCP, and another comes in; all
 * over and over until the time is up. Every checksum counts.
 * @param sha256 of /root/transfer, which the disk step wrote
 */
export async function stressStep({ console, network }: GuestRun, sha256: string, seconds: number): Promise<string> {
  const peer = `/dev/tcp/${HOST_ADDRESS}`;
  const loop = (kind: string, work: string): string =>
    `( while [ $(date +%s) -lt $end ]; do ${work}; done > /run/stress-${kind} 2>&1 ) &`;
  await console.output(`cat > /run/stress <<'END'
end=$(( $(date +%s) + ${seconds} ))
${loop('disk', 'dd if=/root/transfer of=/root/stress bs=1M conv=fsync status=none; echo 3 > /proc/sys/vm/drop_caches; sha256sum < /root/stress')}
${loop('out', `cat /root/transfer > ${peer}/${SINK_PORT} && echo sent`)}
${loop('in', `sha256sum < ${peer}/${SOURCE_PORT}`)}
wait
END`);
  const output = await console.output(
    'bash /run/stress; for k in disk out in; do echo $k; cat /run/stress-$k; done; rm /root/stress', seconds + 240);
  const [, disk = '', out = '', incoming = ''] = /^disk\n([^]*)^out\n([^]*)^in\n([^]*)$/m.exec(`${output}\n`) ?? [];
  const lines = (text: string): string[] => text.trim().split('\n').map((line) => line.slice(0, 64));
  check(lines(disk).every((sum) => sum === sha256), `read back from the disk: ${disk.trim()}`);
  check(lines(out).every((line) => line === 'sent'), `sending: ${out.trim()}`);
  for (let i = 0; i < lines(out).length; i++) {
    const received = await network.message('received');
    check(received.sha256 === sha256, `transfer ${i} out: the host received ${received.bytes} bytes with another SHA-256`);
  }
  for (const [i, sum] of lines(incoming).entries()) {
    const sent = await network.message('sent');
    check(sent.sha256 === sum, `transfer ${i} in: the host sent ${sent.sha256}, the guest received ${sum}`);
  }
  const mib = TRANSFER_BYTES / 2 ** 20;
  return `${seconds} s: ${lines(disk).length} copies of ${mib} MiB on the disk, ${lines(out).length} times ${mib} MiB out, ` +
    `${lines(incoming).length} in, all checksums equal`;
}

/** First frame at 4 GiB. */
const highFrame = 0x100000;

/**
 * Reads and writes a file past the page cache (O_DIRECT) from buffers whose page frames are read from
 * /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst): bits 0–54 the frame, bit 63 present.
 */
const directIo = String.raw`
use strict; use Fcntl;
my $n = 8 << 20; my $page = 4096;
sub buffer { my $b = chr($_[0]) x ($n + $page); my $at = unpack("J", pack("p", $b)); return (\$b, $page - $at % $page, $at); }
sub frames {
  my ($at) = @_; my ($low, $high) = (~0, 0);
  open(my $map, "<:raw", "/proc/self/pagemap") or die "pagemap: $!";
  for (my $a = $at; $a < $at + $n; $a += $page) {
    sysseek($map, $a / $page * 8, 0); sysread($map, my $e, 8) == 8 or die "pagemap: short";
    $e = unpack("Q", $e); die "not present" unless $e >> 63; my $f = $e & ((1 << 55) - 1);
    $low = $f if $f < $low; $high = $f if $f > $high;
  }
  printf "%x %x\n", $low, $high;
}
my ($out, $o, $oa) = buffer(0x5a); my ($in, $i, $ia) = buffer(0);
for (my $k = 0; $k < $n; $k += 64) { substr($$out, $o + $k, 8) = pack("Q", $k * 2654435761 + $$); }
frames($oa + $o); frames($ia + $i);
sysopen(my $f, "/root/direct", O_RDWR | O_CREAT | O_TRUNC | 040000) or die "open: $!";
syswrite($f, $$out, $n, $o) == $n or die "write: $!";
sysseek($f, 0, 0); my $got = 0;
while ($got < $n) { my $r = sysread($f, $$in, $n - $got, $i + $got); die "read: $!" unless $r; $got += $r; last if unpack("J", pack("p", $$in)) != $ia; }
die "the buffer moved" if unpack("J", pack("p", $$in)) != $ia;
print substr($$in, $i, $n) eq substr($$out, $o, $n) ? "same\n" : "different\n";
`;

/** Disk I/O straight from and to pages above 4 GiB. */
export async function highMemoryStep({ console }: GuestRun): Promise<string> {
  const total = Number(await console.output("awk '/^MemTotal/ {print $2}' /proc/meminfo"));
  check(total > 5 * 2 ** 20, `the guest sees ${total} KiB of RAM`);
  await console.output(`cat > /run/direct.pl <<'END'\n${directIo.trim()}\nEND`);
  const output = await console.output('perl /run/direct.pl 2>&1');
  const [written, read, verdict] = output.split('\n');
  for (const range of [written, read]) {
    const lowest = parseInt(range ?? '', 16);
    check(lowest >= highFrame, `a buffer's frames are ${range}, not all above 100000`);
  }
  check(verdict === 'same', `8 MiB written and read back directly: ${output.slice(-200)}`);
  return `8 MiB O_DIRECT from frames ${written!.replace(' ', '–')} and back to ${read!.replace(' ', '–')} (hex), equal`;
}
