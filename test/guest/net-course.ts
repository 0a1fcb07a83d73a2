/**
 * A guest with two queues and frames of 9000 bytes on its network: each step does something in the guest or with
 * `xenshim net`, and looks at what came of it from inside the guest, on the host, or both.
 */
import type { NetBackendStats } from '../../backends/net/driver.js';
import { ask } from '../../cli/control/client.js';
import type { GuestRun } from '../../cli/demo/guest-run.js';
import { HOST_ADDRESS } from '../../cli/demo/host-network.js';
import type { Course } from '../../cli/demo/session.js';
import { check, diskStep, networkStep } from '../../cli/demo/steps.js';
import { SINK_PORT, SOURCE_PORT, TRANSFER_BYTES } from '../../cli/demo/tcp-peer.js';

export const netOptions = ',queues=2,mtu=9000';

export const netSteps = ['features', 'transfer', 'queues', 'mtu'] as const;
export type NetStep = (typeof netSteps)[number];

export const netTitles: Readonly<Record<NetStep, string>> = {
  features: 'has an interface with two queues, scatter-gather, checksums and segments left to the other side',
  transfer: 'transfers 64 MiB each way over TCP',
  queues: 'sends and receives on both queues, and nothing is dropped',
  mtu: 'sends and receives frames of 9000 bytes',
};

/** Connections of the step `queues`: that all of them fall on one queue happens once in 32768 runs. */
const CONNECTIONS = 16;

const ping = (address: string, options: string): string => `ping -c 3 -i 0.2 -W 2 ${options} ${address} | grep -o "[0-9]*% packet loss"`;

/** What `ethtool -k` asks the kernel (linux/ethtool.h), without ethtool: name, command. */
const offloads = { rx: 0x14, tx: 0x16, sg: 0x18, tso: 0x1e, gso: 0x23 } as const;
const SIOCETHTOOL = 0x8946;

async function features({ console }: GuestRun): Promise<string> {
  const asked = Object.entries(offloads).map(([name, command]) => `${name},${command}`).join(' ');
  const output = await console.output(
    `dmesg -n 1; ls -x -w 0 /sys/class/net/eth0/queues; perl -e 'socket(S, 2, 2, 0); for (@ARGV) { ($n, $c) = split /,/; ` +
    `$v = pack("LL", $c, 0); $r = pack("a16 P x16", "eth0", $v); ioctl(S, ${SIOCETHTOOL}, $r) or die "$n: $!"; ` +
    `print "$n=", (unpack("LL", $v))[1], " " }' ${asked}`);
  const [queues = '', on = ''] = output.split('\n').map((line) => line.trim().replace(/\s+/g, ' '));
  check(queues === 'rx-0 rx-1 tx-0 tx-1', `the queues are ${queues}`);
  check(on === Object.keys(offloads).map((name) => `${name}=1`).join(' '), `the offloads are ${on}`);
  return `queues ${queues}; on: ${Object.keys(offloads).join(', ')}`;
}

const statsOf = async ({ options }: GuestRun): Promise<NetBackendStats> =>
  ((await ask(options.name, 'net-stat', { index: 0 })) as { stats: NetBackendStats }[])[0]!.stats;

async function queues(run: GuestRun): Promise<string> {
  await run.console.output(`for i in $(seq ${CONNECTIONS}); do echo $i > /dev/tcp/${HOST_ADDRESS}/${SINK_PORT}; done`);
  for (let i = 0; i < CONNECTIONS; i++) await run.network.message('received');
  const stats = await statsOf(run);
  check(stats.connected && stats.queues.length === 2, `${stats.queues.length} queues, connected: ${stats.connected}`);
  for (const { txPackets, rxPackets } of stats.queues) {
    check(txPackets > 0 && rxPackets > 0, `a queue is idle: ${JSON.stringify(stats.queues)}`);
  }
  check(stats.txBytes > TRANSFER_BYTES && stats.rxBytes > TRANSFER_BYTES, `${stats.txBytes} bytes out, ${stats.rxBytes} in`);
  const bad = Object.entries(stats).filter(([name, value]) => /Drop|Errors|Stalls/.test(name) && value !== 0);
  check(bad.length === 0, `counted: ${JSON.stringify(bad)}`);
  const said = run.xenshim('net', 'stat', run.options.name, '0');
  check(/^interface 0: connected, carrier on\n  queue 0: .*\n  queue 1: .*txPackets/.test(said), said);
  return stats.queues.map((queue, i) => `queue ${i}: ${queue.txPackets} packets out, ${queue.rxPackets} in`).join('; ');
}

async function mtu({ console, network }: GuestRun): Promise<string> {
  const tap = await network.ip('link', 'show', network.tap);
  check(tap.includes(' mtu 9000 '), `the tap: ${tap}`);
  const output = await console.output(
    `ip link set eth0 mtu 9000; ${ping(HOST_ADDRESS, '-M do -s 8972')}; sha256sum < /dev/tcp/${HOST_ADDRESS}/${SOURCE_PORT}`, 300);
  const { sha256 } = await network.message('sent');
  check(output === `0% packet loss\n${sha256}  -`, output);
  return 'frames of 9000 bytes pass unfragmented; 64 MiB in with equal checksum';
}

export const netCourse: Course<NetStep> = async (guest, steps) => {
  // Where `ask` looks for the guest.
  process.env['XENSHIM_RUNDIR'] = guest.runDir;
  await steps.run('features', () => features(guest));
  await steps.run('transfer', async () => {
    const { sha256 } = await diskStep(guest);
    return await networkStep(guest, sha256);
  }, 'vital');
  await steps.run('queues', () => queues(guest));
  await steps.run('mtu', () => mtu(guest));
};
