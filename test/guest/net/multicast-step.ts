/** The guest joins a multicast group, says something to it, and hears what the host says there. */
import { GUEST_ADDRESS } from '../../../cli/demo/host-network.js';
import { check } from '../../../cli/demo/steps.js';
import type { GuestNetwork } from './guest-network.js';
import { GROUP, GROUP_PORT } from './peer.js';

const SAID = 'the guest is here';

/** Numbers of linux/in.h: IP_MULTICAST_IF 32, IP_MULTICAST_LOOP 34, IP_ADD_MEMBERSHIP 35. */
const talk = String.raw`
alarm 60;
my ($group, $me) = map { pack("C4", split /\./) } @ARGV;
socket(S, 2, 2, 17) or die "socket: $!";
bind(S, pack("S n x4 x8", 2, ${GROUP_PORT})) or die "bind: $!";
setsockopt(S, 0, 35, $group . $me) or die "join: $!";
setsockopt(S, 0, 32, $me) or die "interface: $!";
setsockopt(S, 0, 34, pack("l", 0)) or die "loop: $!";
print "joined " . grep(/$ARGV[0]/, qx(ip maddr show dev eth0)) . "\n";
send(S, "${SAID}", 0, pack("S n a4 x8", 2, ${GROUP_PORT}, $group)) or die "send: $!";
defined(recv(S, my $heard, 200, 0)) or die "recv: $!";
print "heard $heard\n";
`;

export async function multicast(net: GuestNetwork): Promise<string> {
  const said = await net.run.console.output(`cat > /run/talk <<'END'\n${talk}END\nperl /run/talk ${GROUP} ${GUEST_ADDRESS}`);
  check(said === `joined 1\nheard ${SAID.toUpperCase()}`, `the guest says: ${said}`);
  const { text, from } = await net.message('heard');
  check(text === SAID && from === GUEST_ADDRESS, `the host heard "${text}" from ${from}`);
  return `joined ${GROUP}, heard the host there and was heard`;
}
