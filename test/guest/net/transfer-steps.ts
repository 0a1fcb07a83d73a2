/** Steps that move data over TCP: each way with checksums compared, under a limit, and over a pause of the link. */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { HOST_ADDRESS } from '../../../cli/demo/host-network.js';
import { check } from '../../../cli/demo/steps.js';
import { transferMiB, type GuestNetwork } from './guest-network.js';
import { SOURCE } from './peer.js';

const rateText = (seconds: number): string => `${(transferMiB / seconds).toFixed(1)} MiB/s`;
/** s the slowest lab is given. */
const PATIENCE = 120 + transferMiB * 3;

/** Both ways, to an address of the host. */
export async function transfer(net: GuestNetwork, address: string): Promise<string> {
  const { console } = net.run;
  const out = await console.output(`send ${address} ${transferMiB}`, PATIENCE);
  const received = await net.message('received', PATIENCE);
  check(received.bytes === transferMiB * 2 ** 20, `the host received ${received.bytes} bytes`);
  check(received.sha256 === out, `the guest sent ${out}, the host received ${received.sha256}`);
  const started = Date.now();
  const into = await console.output(`fetch ${address} ${SOURCE}`, PATIENCE);
  const seconds = (Date.now() - started) / 1000;
  const sent = await net.message('sent');
  check(into === sent.sha256, `the host sent ${sent.sha256}, the guest received ${into}`);
  return `${transferMiB} MiB out at ${rateText(received.seconds)}, in at ${rateText(seconds)}, checksums equal`;
}

/** What is asked of the guest, and for how long after the first seconds, which are a burst's. */
const RATE = '4Mb/s';
const RATE_BYTES = 4e6 / 8;
const SETTLE_MS = 3000;
const WINDOW_MS = 20_000;

/** The guest sends as fast as it may; the tap's own counter tells how fast that is. */
export async function rate(net: GuestNetwork): Promise<string> {
  const { run } = net;
  const { tap } = run.network;
  run.xenshim('net', 'set', run.options.name, '0', `rate=${RATE}`);
  await run.console.output('rm -f /run/stop');
  await net.begin('rate', HOST_ADDRESS, 0);
  await net.sends(tap, RATE_BYTES);
  await sleep(SETTLE_MS);
  const from = await counted(net, tap);
  await sleep(WINDOW_MS);
  const to = await counted(net, tap);
  const seen = (to.bytes - from.bytes) / ((to.at - from.at) / 1000);
  run.xenshim('net', 'set', run.options.name, '0', 'rate=unlimited');
  await run.console.output('touch /run/stop');
  const sum = await net.result('rate');
  const received = await net.message('received');
  check(received.sha256 === sum, 'what passed under the limit arrived with another checksum');
  const percent = (seen / RATE_BYTES - 1) * 100;
  const text = `${(seen / 1e6).toFixed(3)} MB/s over ${WINDOW_MS / 1000} s with rate=${RATE} (${percent.toFixed(1)} %)`;
  check(Math.abs(percent) <= 5, text);
  return text;
}

async function counted(net: GuestNetwork, tap: string): Promise<{ bytes: number; at: number }> {
  const before = performance.now();
  const bytes = await net.sentThrough(tap);
  // The counter is read somewhere in between.
  return { bytes, at: (before + performance.now()) / 2 };
}

/** How long the link is down, once nothing passes any more. */
const DOWN_MS = 2000;

/** A connection in full swing waits while the link is down, and goes on where it was. */
export async function link(net: GuestNetwork): Promise<string> {
  const { run } = net;
  const { tap } = run.network;
  await run.console.output('rm -f /run/stop');
  await net.begin('link', HOST_ADDRESS, 0);
  await net.sends(tap, 2 ** 20);
  run.xenshim('net', 'set', run.options.name, '0', 'link=down');
  await sleep(500);
  const from = await net.sentThrough(tap);
  const down = await run.network.ip('link', 'show', tap);
  check(down.includes('NO-CARRIER'), `with the link down the tap is ${down}`);
  const ping = await run.console.run(`ping -c 2 -i 0.2 -W 1 ${HOST_ADDRESS} > /dev/null`);
  check(ping.status === 1, `ping over a link that is down ended with ${ping.status}`);
  await sleep(DOWN_MS);
  const passed = (await net.sentThrough(tap)) - from;
  check(passed === 0, `${passed} bytes passed a link that is down`);
  run.xenshim('net', 'set', run.options.name, '0', 'link=up');
  await net.sends(tap, 2 ** 20, 120);
  await run.console.output('touch /run/stop');
  const sum = await net.result('link');
  const received = await net.message('received');
  check(received.sha256 === sum, `the guest sent ${sum}, the host received ${received.sha256}`);
  const { txDropDown } = await net.stats();
  check(txDropDown > 0, 'nothing was dropped while the link was down');
  return `nothing passed for ${DOWN_MS / 1000} s (${txDropDown} frames dropped); then the connection went on, ` +
    `${(received.bytes / 2 ** 20).toFixed(0)} MiB in all with equal checksum`;
}
