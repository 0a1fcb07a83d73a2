/** Further steps, for the guest tests. */
import { check } from './steps.js';
import type { GuestRun } from './guest-run.js';

/** `reboot` inside the guest; then it comes up again on the same disk. */
export async function rebootStep({ console }: GuestRun): Promise<string> {
  const bootId = 'cat /proc/sys/kernel/random/boot_id';
  const before = await console.output(bootId);
  console.type('reboot');
  await console.loginAgain();
  const after = await console.output(bootId);
  check(before !== after, 'the boot id is the same: it did not reboot');
  const clean = await console.output('cat /sys/hypervisor/type; ping -c 1 192.0.2.1 > /dev/null && echo reachable');
  check(clean === 'xen\nreachable', `after the reboot: ${clean}`);
  return 'rebooted from inside; Xen, disk and network are back';
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
