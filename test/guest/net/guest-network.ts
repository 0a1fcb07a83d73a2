/** What the steps of the network guest have in common: shell functions in the guest, the peer on the host, counters. */
import type { NetBackendStats } from '../../../backends/net/driver.js';
import { ask } from '../../../cli/control/client.js';
import type { GuestRun } from '../../../cli/demo/guest-run.js';
import { HostProgram } from './host-program.js';
import { SINK, type PeerMessage } from './peer.js';

/** MiB of each large transfer, XENSHIM_TRANSFER_MIB; a lab's software CPU moves a few MiB a second. */
export const transferMiB = Number(process.env['XENSHIM_TRANSFER_MIB'] ?? 64);

/** RFC 3849 documentation addresses. */
export const HOST_ADDRESS6 = '2001:db8:7::1';
export const GUEST_ADDRESS6 = '2001:db8:7::2';

/**
 * blocks N prints N MiB of which no two are alike, or goes on until /run/stop is there if N is 0; send ADDRESS N sends them
 * and prints their checksum; fetch ADDRESS PORT prints the checksum of what comes.
 */
const functions = String.raw`
blocks() {
  perl -e '$n = shift; open F, "/dev/urandom"; read F, $b, 1048572;
    for ($i = 1; $n ? $i <= $n : !-e "/run/stop"; $i++) { print pack("N", $i), $b or die }' $1
}
send() {
  exec 3> /dev/tcp/$1/${SINK} || return
  { blocks $2 | tee /dev/fd/4 >&3; } 4>&1 | sha256sum | cut -c 1-64
  exec 3>&-
}
fetch() { sha256sum < /dev/tcp/$1/$2 | cut -c 1-64; }
result() { until [ -s $1 ]; do sleep 0.3; done; cat $1; }
await() { for i in $(seq 200); do eval "$1" && return; sleep 0.2; done; echo "in vain: $1"; return 1; }
`;

export class GuestNetwork {
  readonly #peer: HostProgram<PeerMessage>;

  private constructor(readonly run: GuestRun) {
    this.#peer = new HostProgram<PeerMessage>(run.network, 'peer.js', String(transferMiB * 2 ** 20));
  }

  /** Starts the peer, and gives both ends addresses of IPv6. */
  static async start(run: GuestRun): Promise<GuestNetwork> {
    const { network, console } = run;
    const self = new GuestNetwork(run);
    await self.#peer.message('listening');
    await network.ip('addr', 'add', `${HOST_ADDRESS6}/64`, 'dev', network.tap, 'nodad');
    await console.output(`cat > /root/functions <<'END'\n${functions}END\n. /root/functions; dmesg -n 1; ` +
      `ip addr add ${GUEST_ADDRESS6}/64 dev eth0 nodad`);
    return self;
  }

  message<K extends PeerMessage['kind']>(kind: K, seconds?: number): Promise<Extract<PeerMessage, { kind: K }>> {
    return this.#peer.message(kind, seconds);
  }

  /** `send` in the guest without waiting for it; its checksum goes to a file of this name. */
  begin(name: string, address: string, mebibytes: number): Promise<string> {
    return this.run.console.output(`rm -f /run/sent-${name}; (send ${address} ${mebibytes} > /run/sent-${name} 2>&1 &)`);
  }

  /** What `begin` has come to. */
  result(name: string, seconds = 180): Promise<string> {
    return this.run.console.output(`result /run/sent-${name}`, seconds);
  }

  /** Bytes the guest has sent through a tap so far. */
  async sentThrough(tap: string): Promise<number> {
    const [link] = JSON.parse(await this.run.network.ip('-json', '-stats', 'link', 'show', tap)) as
      [{ stats64: { rx: { bytes: number } } }];
    return link.stats64.rx.bytes;
  }

  /** Resolves when the guest has sent `bytes` more through a tap. @throws Error after `seconds` */
  async sends(tap: string, bytes: number, seconds = 60): Promise<void> {
    const from = await this.sentThrough(tap);
    const until = Date.now() + seconds * 1000;
    while ((await this.sentThrough(tap)) < from + bytes) {
      if (Date.now() > until) {
        const said = await this.run.console.run('tail -v -n 1 /run/sent-*');
        throw new Error(`the guest sent ${(await this.sentThrough(tap)) - from} bytes through ${tap} in ${seconds} s, not ${bytes}; ` +
          `its transfers: ${said.output.replaceAll('\n', ' ')}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async stats(index = 0): Promise<NetBackendStats> {
    return ((await ask(this.run.options.name, 'net-stat', { index })) as { stats: NetBackendStats }[])[0]!.stats;
  }

  end(): void {
    this.#peer.end();
  }
}
