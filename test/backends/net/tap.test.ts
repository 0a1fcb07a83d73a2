/** The link on the real thing: each scenario in a process and a network namespace of its own. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { FORMS } from './forms.js';

const scripts = (name: string): string => fileURLToPath(new URL(`${name}-scenario.js`, import.meta.url));

function obstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'not root';
  if (!existsSync('/dev/net/tun')) return '/dev/net/tun is not there';
  const probe = spawnSync('unshare', ['-n', 'ip', 'tuntap', 'add', 'probe0', 'mode', 'tap']);
  return probe.status === 0 ? undefined : `no tap in a network namespace: ${probe.error?.message ?? probe.stderr.toString().trim()}`;
}

const reason = obstacle();
if (reason !== undefined) console.log(`taps skipped: ${reason}`);
const onTap = reason === undefined ? test : test.skip;

async function scenario(name: string, file = 'tap', form = ''): Promise<Record<string, unknown>> {
  const command = ['-n', process.execPath, scripts(file), name, form];
  const { stdout } = await promisify(execFile)('unshare', command, { timeout: 60_000 });
  return JSON.parse(stdout) as Record<string, unknown>;
}

/** A test on a tap served by io_uring, and on one served by plain system calls as on kernels before 6.4. */
function onEitherTap(title: string, name: string, judge: (t: ExecutionContext, seen: Record<string, unknown>) => void): void {
  for (const { form, plain } of FORMS) {
    onTap(`${title}${form}`, async (t) => {
      judge(t, await scenario(name, 'tap', plain ? 'plain' : ''));
    });
  }
}

onEitherTap('UDP passes both ways, checksums filled in or left blank as marked, and a wrong one stays wrong', 'udp', (t, seen) => {
  // data_validated | csum_blank: the host's stack left it to us.
  t.deepEqual(seen, { same: true, answerFlags: 3 });
});

for (const version of [4, 6]) {
  const title = `an unsegmented TCPv${version} frame of the guest leaves the host in segments with good checksums`;
  onEitherTap(title, `gsoFromGuest${version}`, (t, { lengths, badSums, same, dropped }) => {
    t.deepEqual(lengths, [...new Array<number>(20).fill(1400), 100]);
    t.is(badSums, 0);
    t.true(same);
    t.is(dropped, 0);
  });
}

onEitherTap('each frame that comes after a while of silence wakes the worker', 'silence', (t, seen) => {
  t.deepEqual(seen, { arrived: 5, waited: true, pins: 0 });
});

onEitherTap('a TCP stream of the host arrives in unsegmented frames, byte for byte', 'gsoToGuest', (t, seen) => {
  const { same, largestGso, gsoSizes, dropped } = seen;
  t.true(same);
  t.true((largestGso as number) > 4096, `largest ${String(largestGso)}`);
  t.deepEqual(gsoSizes, [1400]);
  t.is(dropped, 0);
});

const fourQueues = 'a tap of four queues spreads flows over them, takes frames from all, and has one queue when nobody is connected';
onEitherTap(fourQueues, 'multiQueue', (t, { used, ...rest }) => {
  t.deepEqual(rest, { maxQueues: 4, connected: 4, disconnected: 1, pins: 0 });
  t.true((used as number) >= 2, `${String(used)} queues used`);
});

onTap('an adopted tap has as many queues as its owner made it for, and keeps its MTU', async (t) => {
  t.deepEqual(await scenario('adoptedQueues'), { queues: [1, 4, 1, 2], mtu: 1500 });
});

onTap('a port of a bridge is named as by xl, has its MTU and no address of its own, carries frames, and goes with us', async (t) => {
  const port = [9000, 'fe:ff:ff:ff:ff:ff', true, true, 'br0'];
  t.deepEqual(await scenario('bridged', 'bridge'), {
    names: ['vif1.0', 'vif2.0', 'web'],
    ports: [port, port, port],
    bridgeMtu: 9000,
    keys: ['br0', 'vif1.0', 'bridge=br0'],
    left: [],
  });
});

onTap('the operator is told of a bridge that is not there, is none, a name that is taken, and a missing privilege', async (t) => {
  t.deepEqual(await scenario('noBridge', 'bridge'), {
    codes: ['BRIDGE_MISSING', 'BRIDGE_KIND', 'VIFNAME_USED', 'opened', 'TAP_PERMISSION'],
    left: false,
  });
});

onEitherTap('a frontend without offloads gets finished checksums', 'plainGuest', (t, seen) => {
  t.deepEqual(seen, { flags: 0, sum: 0xffff });
});

onEitherTap('a tap we made is up and goes with us; one that was there stays as it was; the carrier follows the guest', 'lifetime', (t, seen) => {
  t.deepEqual(seen, {
    created: [true, true],
    afterClose: true,
    kept: [false, false],
    keptAfterClose: true,
    queues: [false, false],
    queuesAfterClose: true,
    carrierBefore: false,
    carrierConnected: true,
    carrierAfter: false,
    gone: true,
  });
});

onEitherTap('a link that goes down costs frames, not the vif; one that is deleted can still be closed', 'lostLink', (t, seen) => {
  t.deepEqual(seen, { dropped: 1, sent: 1, txDropLink: 2, pins: 0 });
});

onTap('the operator is told of a bad name, a busy tap, an interface that is none, and a missing privilege', async (t) => {
  t.deepEqual(await scenario('mistakes'), {
    names: new Array<string>(9).fill('TAP_NAME'),
    fifteen: 'opened',
    busy: 'TAP_BUSY',
    loopback: 'TAP_KIND',
    bridge: 'TAP_KIND',
    unprivileged: 'TAP_PERMISSION',
  });
});
