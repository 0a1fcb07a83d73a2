/**
 * What the guests are asked to do: disk jobs by fio past the guest's page cache, and plain TCP by Perl, which is in every
 * Debian. Each is a shell command for the guest that prints one number last.
 */
import { HOST_ADDRESS } from '../../../cli/demo/host-network.js';

export interface GuestCase {
  readonly name: string;
  /** Of the number: requests a second, or bytes. */
  readonly unit: 'IO/s' | 'MB/s' | '1/s';
  /** Part of the guest that is at work, whose counters are of interest. */
  readonly part: 'disk' | 'network';
  readonly command: (seconds: number) => string;
  /** What the issue of these figures is: ours over the peer's. */
  readonly asked: number;
}

/** Where the disk jobs go; its bytes are all there, in the host's page cache. */
export const DATA_DEVICE = '/dev/xvdb';
export const DATA_BYTES = 256 * 2 ** 20;

/** Ports of the host's end, see stream-peer.ts. */
export const SINK = 5101;
export const SOURCE = 5102;
export const ECHO = 5103;

/** Terse output of fio, version 3: fields 8 and 49 are the requests a second read and written. */
function fio(name: string, mode: string, size: string, depth: number): GuestCase {
  const field = mode.endsWith('write') ? 49 : 8;
  return {
    name,
    unit: 'IO/s',
    part: 'disk',
    asked: 1,
    command: (seconds) =>
      `fio --name=job --filename=${DATA_DEVICE} --ioengine=libaio --direct=1 --rw=${mode} --bs=${size} --iodepth=${depth} ` +
      `--norandommap --gtod_reduce=1 --time_based --runtime=${seconds} --output-format=terse --terse-version=3 | cut -d';' -f${field}`,
  };
}

/** Perl's clock without modules that perl-base lacks: clock_gettime(CLOCK_MONOTONIC), system call 228 on x86-64. */
const perlHead =
  'use Socket; $| = 1; sub now { my $t = "\\0" x 16; syscall(228, 1, $t); my ($s, $n) = unpack("qq", $t); $s + $n / 1e9 } ' +
  'sub dial { socket(my $s, PF_INET, SOCK_STREAM, 6) or die; connect($s, sockaddr_in($_[0], inet_aton("' + HOST_ADDRESS + '"))) or die "connect: $!"; ' +
  'setsockopt($s, 6, 1, 1); $s } ';

function perl(name: string, unit: GuestCase['unit'], asked: number, body: (seconds: number) => string): GuestCase {
  return { name, unit, part: 'network', asked, command: (seconds) => `perl -e '${perlHead}${body(seconds)}'` };
}

export const CASES: readonly GuestCase[] = [
  fio('randread-4k-qd1', 'randread', '4k', 1),
  fio('randread-4k-qd32', 'randread', '4k', 32),
  fio('randwrite-4k-qd32', 'randwrite', '4k', 32),
  fio('read-128k-qd32', 'read', '128k', 32),
  // The host says when it has everything, so that what waits in buffers is not counted too early.
  perl('tcp-out', 'MB/s', 3, (seconds) =>
    `my $s = dial(${SINK}); my $b = "x" x 131072; my ($n, $at) = (0, now()); ` +
    `while (now() - $at < ${seconds}) { my $w = syswrite($s, $b); die "write: $!" unless $w; $n += $w } ` +
    `shutdown($s, 1); sysread($s, $b, 1); printf "%.3f\\n", $n / (now() - $at) / 1e6`),
  perl('tcp-in', 'MB/s', 3, (seconds) =>
    `my $s = dial(${SOURCE}); my ($b, $n, $at) = ("", 0, now()); ` +
    `while (now() - $at < ${seconds}) { my $r = sysread($s, $b, 262144); die "read: $!" unless $r; $n += $r } ` +
    `printf "%.3f\\n", $n / (now() - $at) / 1e6`),
  perl('tcp-rr', '1/s', 1, (seconds) =>
    `my $s = dial(${ECHO}); my ($b, $n, $at) = ("", 0, now()); ` +
    `while (now() - $at < ${seconds}) { syswrite($s, "x"); sysread($s, $b, 1) or die "read: $!"; $n++ } ` +
    `printf "%.1f\\n", $n / (now() - $at)`),
];
