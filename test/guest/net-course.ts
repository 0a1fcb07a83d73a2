/**
 * A guest with four queues and frames of up to 9000 bytes on its network: each step does something in the guest or with
 * `xenshim net`, and looks at what came of it from inside the guest, on the host, or both.
 */
import type { GuestRun } from '../../cli/demo/guest-run.js';
import { GUEST_ADDRESS, HOST_ADDRESS } from '../../cli/demo/host-network.js';
import type { Course } from '../../cli/demo/session.js';
import { check, poweroffStep } from '../../cli/demo/steps.js';
import { GuestNetwork, HOST_ADDRESS6, transferMiB } from './net/guest-network.js';
import { multicast } from './net/multicast-step.js';
import { SINK, SMALL_SOURCE } from './net/peer.js';
import { captures, hotplug, makeTap } from './net/second-interface.js';
import { link, rate, transfer } from './net/transfer-steps.js';

const QUEUES = 4;
export const netOptions = `,queues=${QUEUES},mtu=9000`;
/** Linux uses as many queues as it has CPUs unless it is told otherwise, and two are what the lab can carry. */
export const netKernelArguments = `xen_netfront.max_queues=${QUEUES}`;

export const netTitles = {
  features: 'has an interface with four queues, scatter-gather, checksums and segments left to the other side',
  transfer4: `transfers ${transferMiB} MiB each way over TCP and IPv4 with equal checksums`,
  transfer6: `transfers ${transferMiB} MiB each way over TCP and IPv6 with equal checksums`,
  queues: 'sends and receives on every queue, and nothing is dropped',
  mtu: 'sends and receives frames of 9000 bytes',
  multicast: 'joins a multicast group, hears it and is heard in it',
  rate: 'sends within 5 % of the rate it is given',
  link: 'sends nothing while its link is down, and its connections go on afterwards',
  captures: 'sends and receives the very frames that the capture has, as the tap shows',
  hotplug: 'loses a second interface and gets it again, twice, while frames pass both ways',
  poweroff: 'powers off when asked from outside, and nothing is left',
} as const;
export type NetStep = keyof typeof netTitles;

/** Connections of the step `queues`: that none of them falls on a given queue happens once in 10^8 runs. */
const CONNECTIONS = 64;

const ping = (address: string, options: string): string => `ping -c 3 -i 0.2 -W 2 ${options} ${address} | grep -o "[0-9]*% packet loss"`;

/** What `ethtool -k` asks the kernel (linux/ethtool.h), without ethtool: name, command. */
const offloads = { rx: 0x14, tx: 0x16, sg: 0x18, tso: 0x1e, gso: 0x23 } as const;
const SIOCETHTOOL = 0x8946;

async function features({ console }: GuestRun): Promise<string> {
  const asked = Object.entries(offloads).map(([name, command]) => `${name},${command}`).join(' ');
  const output = await console.output(
    `(cd -P /sys/class/net/eth0/device/driver && echo "\${PWD##*/}"); ip -color=never -4 -o addr show eth0; ` +
    `ls -x -w 0 /sys/class/net/eth0/queues; perl -e 'socket(S, 2, 2, 0); for (@ARGV) { ($n, $c) = split /,/; ` +
    `$v = pack("LL", $c, 0); $r = pack("a16 P x16", "eth0", $v); ioctl(S, ${SIOCETHTOOL}, $r) or die "$n: $!"; ` +
    `print "$n=", (unpack("LL", $v))[1], " " }' ${asked}`);
  const [driver, address = '', queues = '', on = ''] = output.split('\n').map((line) => line.trim().replace(/\s+/g, ' '));
  check(driver === 'vif', `eth0's driver is ${driver}`);
  check(address.includes(` ${GUEST_ADDRESS}/24 `), `eth0 has address ${address}`);
  const expected = ['rx', 'tx'].flatMap((way) => Array.from({ length: QUEUES }, (_, i) => `${way}-${i}`)).join(' ');
  check(queues === expected, `the queues are ${queues}`);
  check(on === Object.keys(offloads).map((name) => `${name}=1`).join(' '), `the offloads are ${on}`);
  return `driver ${driver}; queues ${queues}; on: ${Object.keys(offloads).join(', ')}`;
}

async function queues(net: GuestNetwork): Promise<string> {
  const { run } = net;
  await run.console.output(`for i in $(seq ${CONNECTIONS}); do echo $i > /dev/tcp/${HOST_ADDRESS}/${SINK}; done`);
  for (let i = 0; i < CONNECTIONS; i++) await net.message('received');
  const stats = await net.stats();
  check(stats.connected && stats.queues.length === QUEUES, `${stats.queues.length} queues, connected: ${stats.connected}`);
  for (const { txPackets, rxPackets } of stats.queues) {
    check(txPackets > 0 && rxPackets > 0, `a queue is idle: ${JSON.stringify(stats.queues)}`);
  }
  const bytes = transferMiB * 2 ** 20;
  check(stats.txBytes > bytes && stats.rxBytes > bytes, `${stats.txBytes} bytes out, ${stats.rxBytes} in`);
  const bad = Object.entries(stats).filter(([name, value]) => /Drop|Errors|Stalls/.test(name) && value !== 0);
  check(bad.length === 0, `counted: ${JSON.stringify(bad)}`);
  const said = run.xenshim('net', 'stat', run.options.name, '0');
  check(/^interface 0: connected, carrier on\n {2}queue 0: .*\n {2}queue 1: .*txPackets/.test(said), said);
  return stats.queues.map((queue, i) => `queue ${i}: ${queue.txPackets} packets out, ${queue.rxPackets} in`).join('; ');
}

async function mtu(net: GuestNetwork): Promise<string> {
  const { console, network } = net.run;
  const tap = await network.ip('link', 'show', network.tap);
  check(tap.includes(' mtu 9000 '), `the tap: ${tap}`);
  const output = await console.output(
    `ip link set eth0 mtu 9000; ${ping(HOST_ADDRESS, '-M do -s 8972')}; fetch ${HOST_ADDRESS} ${SMALL_SOURCE}`, 300);
  const { sha256, bytes } = await net.message('sent');
  check(output === `0% packet loss\n${sha256}`, output);
  return `frames of 9000 bytes pass unfragmented; ${bytes / 2 ** 20} MiB in with equal checksum`;
}

export const netCourse: Course<NetStep> = async (guest, steps) => {
  // Where `ask` looks for the guest.
  process.env['XENSHIM_RUNDIR'] = guest.runDir;
  const net = await GuestNetwork.start(guest);
  try {
    await steps.run('features', () => features(guest));
    await steps.run('transfer4', () => transfer(net, HOST_ADDRESS), 'vital');
    await steps.run('transfer6', () => transfer(net, HOST_ADDRESS6));
    await steps.run('queues', () => queues(net));
    await steps.run('mtu', () => mtu(net));
    await steps.run('multicast', () => multicast(net));
    await steps.run('rate', () => rate(net));
    await steps.run('link', () => link(net));
    await makeTap(net);
    await steps.run('captures', () => captures(net));
    await steps.run('hotplug', () => hotplug(net));
  } finally {
    net.end();
  }
  await steps.run('poweroff', () => poweroffStep(guest));
};
