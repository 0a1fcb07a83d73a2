/**
 * A second interface that comes and goes while the guest runs, on a tap that is there before and stays; with a capture,
 * which is held against what a packet socket on the tap has seen.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { check } from '../../../cli/demo/steps.js';
import { readCapture } from './capture-file.js';
import type { GuestNetwork } from './guest-network.js';
import { HostProgram } from './host-program.js';
import { SMALL_SOURCE } from './peer.js';
import type { ReaderMessage, SeenFrame } from './tap-reader.js';

/** RFC 5737, another net than the first interface's. */
const HOST = '198.51.100.1';
const GUEST = '198.51.100.2';
const CAPTURED_MIB = 2;
/** Longest frame that a network of 1500 bytes takes in one piece. */
const ONE_SEGMENT = 1514;

const tapOf = (net: GuestNetwork): string => `${net.run.network.tap.slice(0, 13)}2`;

/** A tap of the operator's own. */
export async function makeTap(net: GuestNetwork): Promise<void> {
  const { network } = net.run;
  await network.ip('tuntap', 'add', 'dev', tapOf(net), 'mode', 'tap');
  await network.ip('addr', 'add', `${HOST}/24`, 'dev', tapOf(net));
  await network.ip('link', 'set', tapOf(net), 'up');
}

async function attach(net: GuestNetwork, options = ''): Promise<void> {
  const { run } = net;
  const index = run.xenshim('net', 'attach', run.options.name, `tap=${tapOf(net)}${options}`);
  check(index === '1', `the new interface is number ${index}`);
  // Until both ends have a carrier, connections are refused for want of a neighbour.
  await run.console.output(
    `await '[ -e /sys/class/net/eth1 ]' && ip addr add ${GUEST}/24 dev eth1 && ip link set eth1 up && await 'ping -c 1 -W 1 ${HOST} > /dev/null'`);
}

async function detach(net: GuestNetwork): Promise<void> {
  const { run } = net;
  run.xenshim('net', 'detach', run.options.name, '1');
  await run.console.output(`await '[ ! -e /sys/class/net/eth1 ]'`);
  const left = run.xenshim('net', 'list', run.options.name);
  check(!left.includes(tapOf(net)), `still in the list: ${left}`);
}

const ours = ({ etherType, source, destination }: SeenFrame): boolean =>
  etherType === 0x0800 && [source, destination].every((address) => address === HOST || address === GUEST);

const lines = (frames: readonly SeenFrame[], outbound: boolean): string[] =>
  frames.filter((frame) => ours(frame) && frame.outbound === outbound).map(({ length, hash }) => `${length} ${hash}`);

/** Datagrams as fast as they go, until /run/stop is there. While the interface is away they go nowhere. */
const flood = `perl -MSocket -e 'socket(S, PF_INET, SOCK_DGRAM, 0); $to = sockaddr_in(9, inet_aton("${HOST}")); $b = "x" x 1400;
  until (-e "/run/stop") { send(S, $b, 0, $to) or select(undef, undef, undef, 0.01) }'`;
const TIMES = 2;
const FLOOD_BYTES = 2 ** 19;

/** The interface goes and comes while frames pass both ways; then it carries two transfers. */
export async function hotplug(net: GuestNetwork): Promise<string> {
  const { run } = net;
  const tap = tapOf(net);
  const [program, ...args] = run.network.wrap(['ping', '-f', '-q', '-s', '1400', GUEST]);
  const before = await net.sentThrough(tap);
  await attach(net);
  await run.console.output(`rm -f /run/stop; (${flood} > /dev/null 2>&1 &)`);
  const echo = spawn(program!, args, { stdio: 'ignore' });
  try {
    for (let time = 0; time < TIMES; time++) {
      await net.sends(tap, FLOOD_BYTES);
      await detach(net);
      await attach(net);
    }
    await net.sends(tap, FLOOD_BYTES);
  } finally {
    echo.kill();
  }
  await run.console.output('touch /run/stop');
  const passed = (await net.sentThrough(tap)) - before;
  await transferOnce(net);
  await detach(net);
  return `detached ${TIMES} times while ${(passed / 2 ** 20).toFixed(1)} MiB and a flood of pings passed, attached again, and right`;
}

/** A few MiB each way through the second interface. */
async function transferOnce(net: GuestNetwork): Promise<void> {
  await net.begin('small', HOST, CAPTURED_MIB);
  const [sum, received] = [await net.result('small'), await net.message('received')];
  check(sum === received.sha256, 'what left through the new interface arrived with another checksum');
  const into = await net.run.console.output(`fetch ${HOST} ${SMALL_SOURCE}`);
  check(into === (await net.message('sent')).sha256, 'what came through the new interface has another checksum');
}

/** Both ends have seen the same frames in the same order. */
export async function captures(net: GuestNetwork): Promise<string> {
  const { run } = net;
  const file = run.makeFile('eth1.pcapng', 0);
  const reader = new HostProgram<ReaderMessage>(run.network, 'tap-reader.js', tapOf(net));
  try {
    await reader.message('listening');
    await attach(net, `,pcap=${file}`);
    const ping = await run.console.output(`ping -c 5 -i 0.2 -s 1000 ${HOST} | grep -o '[0-9]*% packet loss'`);
    check(ping === '0% packet loss', ping);
    await transferOnce(net);
    // The last acknowledgements.
    await sleep(1000);
    await detach(net);
    reader.tell('stop');
    return compare(readCapture(file), await reader.message('frames'));
  } finally {
    reader.end();
  }
}

function compare(capture: ReturnType<typeof readCapture>, tap: Extract<ReaderMessage, { kind: 'frames' }>): string {
  check(capture.dropped === 0 && tap.missed === 0, `frames are missing: ${capture.dropped} of ours, ${tap.missed} of the tap's`);
  const counts = [true, false].map((outbound) => {
    const [here, there] = [lines(capture.frames, outbound), lines(tap.frames, outbound)];
    const way = outbound ? 'out' : 'in';
    const differs = here.findIndex((line, i) => line !== there[i]);
    check(here.length === there.length && differs < 0,
      `${way}: ${here.length} frames here, ${there.length} on the tap; frame ${differs} is ${here[differs]} here, ${there[differs]} there`);
    const large = capture.frames.filter((frame) => frame.outbound === outbound && frame.length > ONE_SEGMENT).length;
    check(here.length >= 5 && large > 0, `${way}: only ${here.length} frames, ${large} of them unsegmented`);
    return `${here.length} ${way}, ${large} of them unsegmented`;
  });
  return `the same frames in our capture and on the tap: ${counts.join('; ')}`;
}
