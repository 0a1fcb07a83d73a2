/** The link `user` with the real passt, where it is installed; no privilege is needed. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import test from 'ava';
import { openUserLink } from '../../../backends/net/user-link.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { silentLog } from '../../../shim/observe/log.js';
import { TcpClient } from './tcp-client.js';
import { until, VifLab } from './vif-lab.js';

const missing = spawnSync('passt', ['--version'], { stdio: 'ignore' }).error !== undefined;
if (missing) console.log('user links skipped: passt is not installed');
const withPasst = missing ? test.skip : test.serial;

/** Our passt processes. */
function children(): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return Number(parent) === process.pid && state !== 'Z' && /passt/.test(stat);
    } catch {
      return false; // it has just ended
    }
  });
}

const MAC = [0, 0x16, 0x3e, 0, 0, 1];

/** Who has the gateway's address? passt answers for it, and for every other but the guest's. */
function arpRequest(target: readonly number[]): Uint8Array {
  return Uint8Array.from([
    ...new Array<number>(6).fill(255), ...MAC, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...MAC, 10, 0, 0, 77, 0, 0, 0, 0, 0, 0, ...target,
    ...new Array<number>(18).fill(0),
  ]);
}

async function answered(lab: VifLab): Promise<Buffer> {
  let answer: Buffer | undefined;
  await until(() => {
    lab.front.postRx(1);
    lab.front.send(arpRequest([10, 0, 0, 1]));
    lab.front.txResponses();
    for (const { id, status } of lab.front.rxResponses()) {
      const frame = Buffer.from(lab.front.rxBuffer(id).slice(0, status));
      if (frame.readUInt16BE(12) === 0x0806 && frame[21] === 2) answer = frame;
    }
    return answer !== undefined;
  }, () => 'passt does not answer');
  return answer!;
}

withPasst('passt answers the guest, is started again when it dies, and is gone with the link', async (t) => {
  const lab = new VifLab({ link: openUserLink(silentLog) });
  await lab.connect();
  const reply = await answered(lab);
  t.deepEqual([...reply.subarray(28, 32)], [10, 0, 0, 1]);
  const [first] = children();
  t.is(children().length, 1);
  process.kill(first!, 'SIGKILL');
  await until(() => children().some((pid) => pid !== first));
  await lab.disconnect();
  await lab.connect();
  await answered(lab);
  t.is(await lab.close(), 0);
  await until(() => children().length === 0);
  t.is(readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('passt');
    } catch {
      return false;
    }
  }).length, 0);
});

/** The gateway of this host, which passt makes the guest's name for the host itself. */
function gateway(): number[] | undefined {
  const line = readFileSync('/proc/net/route', 'utf8').split('\n').map((each) => each.split('\t')).find((each) => each[1] === '00000000');
  return line && [...Buffer.from(line[2]!, 'hex')].reverse();
}

const withGateway = missing || gateway() === undefined ? test.skip : test.serial;
if (!missing && gateway() === undefined) console.log('TCP through a user link skipped: this host has no default route');

withGateway('what a guest sends unsegmented through passt arrives byte for byte', async (t) => {
  const arrived: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on('data', (chunk) => arrived.push(chunk));
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const lab = new VifLab({ link: openUserLink(silentLog) });
  await lab.connect();
  const mac = [...(await answered(lab)).subarray(22, 28)];
  const { port } = server.address() as AddressInfo;
  const client = new TcpClient(
    lab, { mac: MAC, address: [10, 0, 0, 77], port: 40_000 }, { mac, address: gateway()!, port });
  await client.connect();
  const payload = Buffer.alloc(64_000).map((_, i) => (i * 7 + (i >> 8)) & 255);
  // The window of a connection that has just begun: what passt has no room for it does not take at once.
  for (const bytes of [1000, 14_000, 30_000, 64_000]) {
    const before = arrived.reduce((sum, chunk) => sum + chunk.length, 0);
    await client.send(payload.subarray(0, bytes), 1400);
    await until(() => arrived.reduce((sum, chunk) => sum + chunk.length, 0) === before + bytes);
    t.true(Buffer.concat(arrived).subarray(before).equals(payload.subarray(0, bytes)), `${bytes} bytes`);
  }
  t.is(lab.backend.stats().txDropLink, 0);
  server.close();
  t.is(await lab.close(), 0);
  await until(() => children().length === 0);
});

test('without passt the operator is told what to install', (t) => {
  const error = t.throws(() => openUserLink(silentLog, 'no-such-passt'), { instanceOf: OperatorError });
  t.is(error.code, 'PASST_MISSING');
  t.regex(error.remedy, /apt-get install passt/);
});
