/**
 * The host's end of what the network guest does: hashes what comes over TCP, sends known bytes to whoever connects, both
 * over IPv4 and IPv6; and hears and answers a multicast group. `peer.js BYTES`.
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { pathToFileURL } from 'node:url';
import { HOST_ADDRESS } from '../../../cli/demo/host-network.js';
import { listen, say, sink, source, type PeerMessage as TcpMessage } from '../../../cli/demo/tcp-peer.js';

export const SINK = 5011;
export const SOURCE = 5012;
/** Sends SMALL_BYTES whatever the size of the others. */
export const SMALL_SOURCE = 5014;
const SMALL_BYTES = 2 * 2 ** 20;
export const GROUP = '239.255.77.1';
export const GROUP_PORT = 5013;

export type PeerMessage = TcpMessage | { readonly kind: 'heard'; readonly text: string; readonly from: string };

/** Tells what the group says, and says the same to it in capitals. */
function group(): Promise<void> {
  const socket = createSocket({ type: 'udp4', reuseAddr: true });
  socket.on('message', (message, { address }) => {
    const text = message.toString();
    say<PeerMessage>({ kind: 'heard', text, from: address });
    socket.send(text.toUpperCase(), GROUP_PORT, GROUP);
  });
  return new Promise((resolve) => {
    socket.bind(GROUP_PORT, () => {
      socket.addMembership(GROUP, HOST_ADDRESS);
      socket.setMulticastInterface(HOST_ADDRESS);
      // Its own words would be answered, too.
      socket.setMulticastLoopback(false);
      resolve();
    });
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const bytes = Number(process.argv[2]);
  await listen(createServer(sink), SINK, '::');
  await listen(createServer((socket) => void source(socket, bytes)), SOURCE, '::');
  await listen(createServer((socket) => void source(socket, SMALL_BYTES)), SMALL_SOURCE, '::');
  await group();
  say<PeerMessage>({ kind: 'listening' });
}
