/** A script for a network namespace of its own: bridges and their ports; prints what it saw as JSON. */
import { execFileSync } from 'node:child_process';
import { openLink, openLinkOf, parseLink } from '../../../backends/net/links.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { silentLog } from '../../../shim/observe/log.js';
import { RX_BUFFERS } from './fake-netfront.js';
import { plainFrame } from './frames.js';
import { until, VifLab } from './vif-lab.js';

type Seen = Record<string, unknown>;

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' });

interface LinkState {
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly address: string;
  readonly mtu: number;
  readonly master?: string;
}

const linkState = (name: string): LinkState | undefined =>
  (JSON.parse(ip('-j', 'link')) as LinkState[]).find(({ ifname }) => ifname === name);

/** A port of a bridge, as xl's script makes it, and frames from one guest to another through it. */
async function bridged(): Promise<Seen> {
  ip('link', 'add', 'br0', 'type', 'bridge');
  ip('link', 'set', 'br0', 'mtu', '9000', 'up');
  const link = openLink('bridge=br0');
  const other = openLink('bridge=br0', { queues: 2 });
  const named = openLinkOf({ kind: 'bridge', name: 'br0', vifname: 'web' }, { domid: 1, index: 3, queues: 1, log: silentLog });
  const names = [link, other, named].map(({ interfaceName }) => interfaceName!);
  const ports = names.map((name) => {
    const { mtu, address, flags, master } = linkState(name)!;
    return [mtu, address, flags.includes('UP'), flags.includes('NOARP'), master];
  });
  const bridgeMtu = linkState('br0')!.mtu;
  const lab = new VifLab({ link });
  const peer = new VifLab({ link: other });
  await lab.connect();
  await peer.connect();
  const frame = plainFrame(8000);
  frame.fill(255, 0, 6);
  peer.front.postRx(RX_BUFFERS);
  await until(() => {
    lab.front.send(frame);
    lab.front.txResponses();
    // Two slots each; the host sends a few frames of its own.
    const fragments = peer.front.rxResponses();
    const parts = fragments.map(({ id, status }) => peer.front.rxBuffer(id).slice(0, status));
    peer.front.postRx(fragments.length);
    return Buffer.concat(parts).includes(Buffer.from(frame));
  });
  const keys = [lab.key('bridge'), lab.key('vifname'), lab.key('script')];
  await lab.close();
  await peer.close();
  named.close();
  // io_uring gives up its registered files in its own time; the last of them takes the interface with it.
  await until(() => names.every((name) => linkState(name) === undefined));
  const left = names.filter((name) => linkState(name) !== undefined);
  return { names, ports, bridgeMtu, keys, left };
}

/** What is wrong with a bridge, by code; nothing is left of the attempt. */
function noBridge(): Promise<Seen> {
  ip('tuntap', 'add', 'kept', 'mode', 'tap');
  ip('link', 'add', 'br0', 'type', 'bridge');
  const code = (text: string, vifname?: string): string => {
    try {
      const spec = parseLink(text);
      const named = spec.kind === 'bridge' && vifname !== undefined ? { ...spec, vifname } : spec;
      openLinkOf(named, { domid: 1, index: 0, queues: 1, log: silentLog }).close();
      return 'opened';
    } catch (error) {
      return error instanceof OperatorError && error.remedy !== '' ? error.code : String(error);
    }
  };
  const codes = [code('bridge=none'), code('bridge=kept'), code('bridge=br0', 'kept'), code('bridge=br0')];
  process.setuid!(65_534);
  codes.push(code('bridge=br0'));
  return Promise.resolve({ codes, left: linkState('vif1.0') !== undefined });
}

const scenarios: Record<string, () => Promise<Seen>> = { bridged, noBridge };
console.log(JSON.stringify(await scenarios[process.argv[2]!]!()));
