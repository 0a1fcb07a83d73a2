/**
 * The host's end of the TCP cases: takes all and then says so, sends until the other end has enough, answers byte by byte.
 * In Perl, which a Debian host has, as the guest's end is: Node would be the slowest of all that is measured.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import type { HostNetwork } from '../../../cli/demo/host-network.js';
import { ECHO, SINK, SOURCE } from './cases.js';

const program = String.raw`
use Socket; $SIG{PIPE} = "IGNORE"; $SIG{CHLD} = "IGNORE";
sub serve {
  my ($port, $what) = @_;
  socket(my $l, PF_INET, SOCK_STREAM, 6) or die; setsockopt($l, SOL_SOCKET, SO_REUSEADDR, 1);
  bind($l, sockaddr_in($port, INADDR_ANY)) or die "bind: $!"; listen($l, 8) or die;
  return if fork;
  while (accept(my $s, $l)) { setsockopt($s, 6, 1, 1); $what->($s); close $s }
  exit;
}
my $b;
serve(${SINK}, sub { 1 while sysread($_[0], $b, 262144); syswrite($_[0], "x") });
serve(${SOURCE}, sub { my $x = "x" x 131072; 1 while syswrite($_[0], $x) });
serve(${ECHO}, sub { syswrite($_[0], $b) while sysread($_[0], $b, 1) });
$| = 1; print "listening\n"; sleep while 1;
`;

/** Starts it in the guest's namespace; resolves when it listens. It ends with its process group. */
export function startStreamPeer(network: HostNetwork): Promise<ChildProcess> {
  const [command, ...args] = network.wrap(['perl', '-e', program]);
  const child = spawn(command!, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  return new Promise((resolve, reject) => {
    child.stdout.once('data', () => {
      resolve(child);
    });
    child.once('exit', (status) => {
      reject(new Error(`the TCP peer ended with ${status}`));
    });
  });
}
